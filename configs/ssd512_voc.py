"""SSD512 on PASCAL VOC 2007 as its authors train it: the longer schedule and the augmentation of SSD512*.

python train.py --config=configs/ssd512_voc.py --workdir=runs/ssd512_voc

reaches: (not measured here; the authors publish 79.8 mAP on VOC 2007's test set, trained on 2007 and 2012 together)

The published steps are for the trainval pictures of 2007 and 2012; to have both, name a source that holds them. The trunk's
weights, Caffe's as published with SSD, lie where train.py is run; its fc6 and fc7 begin fresh, the authors' from VGG's.
Difficult objects are left out here, and learned from there.
"""

from configs import ssd300_voc


def get_config():
    return ssd300_voc.get_config("ssd512")
