"""SSD300 on PASCAL VOC 2007 as its authors train it: the longer schedule and the augmentation of SSD300*.

python train.py --config=configs/ssd300_voc.py --workdir=runs/ssd300_voc

reaches: (not measured here; the authors publish 77.2 mAP on VOC 2007's test set, trained on 2007 and 2012 together)

The published steps are for the trainval pictures of 2007 and 2012; to have both, name a source that holds them. The trunk's
weights, Caffe's as published with SSD, lie where train.py is run; its fc6 and fc7 begin fresh, the authors' from VGG's.
Difficult objects are left out here, and learned from there.
"""

from jaxvision import config as configs

SOURCE, TRAIN, VALIDATION = "tfds:voc/2007", "train+validation", "test"


def get_config(form="ssd300"):
    side = int(form.removeprefix("ssd"))
    config = configs.default()
    config.steps = 120_000
    config.batch_size = 32
    config.architecture = dict(name="ssd", form=form, scales="voc", matching="bipartite", clip_boxes=False)
    config.data.source = SOURCE
    config.data.train = TRAIN
    config.data.validation = VALIDATION
    config.data.canvas = (side, side)
    config.data.stretch = True
    config.data.workers = 16
    config.data.transforms = dict(
        photometric_distort=dict(rule="caffe", hue=0.1, shuffle=0.0),
        zoom_out={},
        iou_crop={},
        random_interpolation=dict(height=side, width=side),
        flip={},
    )
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "step:80000,100000"
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.factors = (("bias$", 2.0),)
    config.init = (("^trunk/block", "vgg16:vgg16_features-amdegroot-88682ab5.pth"),)
    config.evaluate.every = 10_000
    config.checkpoint.every = 5_000
    return config
