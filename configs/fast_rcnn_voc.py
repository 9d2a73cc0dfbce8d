"""Fast R-CNN on VGG16, for VOC 2007 as published, with Selective Search's proposals.

python train.py --config=configs/fast_rcnn_voc.py --workdir=runs/fast_rcnn_voc

reaches: (not measured here; the paper has mAP 66.9 on VOC 2007's test set, 66.6 with ranks=(1024, 256))

The ImageNet weights lie where train.py is run. Two images a batch, 64 regions of each. Departures: images are fitted to
600 x 1000 or 1000 x 600 pixels, and colours are normalised as VGG16's weights here want it.
"""

from configs import faster_rcnn_voc


def get_config():
    config = faster_rcnn_voc.get_config()
    config.steps = 40_000
    config.architecture = dict(name="fast_rcnn", backbone="vgg16")
    config.data.proposals = dict(method="selective_search")
    config.optimizer.schedule = "step:30000"
    return config
