"""Faster R-CNN on VGG16, for VOC 2007 as published, RPN and detector trained together.

python train.py --config=configs/faster_rcnn_voc.py --workdir=runs/faster_rcnn_voc

reaches: (not measured here; the paper has mAP 69.9 on VOC 2007's test set, trained in four steps)

The ImageNet weights lie where train.py is run. The schedule is that of the authors' approximate joint training: 70,000
updates of two images. Departures: images are fitted to 600 x 1000 or 1000 x 600 pixels, proposals have 16 pixels or more
there and not in the image before it is scaled, and colours are normalised as VGG16's weights here want it.
"""

from jaxvision import config as configs

VGG16 = "vgg16:vgg16-397923af.pth"


def get_config():
    config = configs.default()
    config.steps = 70_000
    config.batch_size = 2
    config.architecture = dict(name="faster_rcnn", backbone="vgg16", legacy_anchors=True)
    config.data.source = "tfds:voc/2007"
    config.data.train = "train+validation"
    config.data.validation = "test"
    config.data.canvas = ((600, 1000), (1000, 600))
    config.data.workers = 8
    config.data.transforms = dict(flip={})
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "step:50000"
    config.optimizer.weight_decay = 5e-4
    config.optimizer.factors = (("bias$", 2.0),)
    config.optimizer.trainable = r"^(?!trunk/block[12]/)"
    config.init = (("^trunk/", VGG16), (r"^box_head/(?=fc[67]/)", VGG16, ""))
    config.evaluate.every = config.checkpoint.every = 10_000
    return config
