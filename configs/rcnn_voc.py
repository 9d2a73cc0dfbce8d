"""R-CNN on VOC 2007 as published: AlexNet from ImageNet, Selective Search, SVMs and box regression.

python train.py --config=configs/rcnn_voc.py --workdir=runs/rcnn_voc

reaches: (not measured here; published for VOC 2007's test: mAP 54.2 without and 58.5 with box regression, of VGG16 62.2 and 66.0)

--config=configs/rcnn_voc.py:vgg16 is the larger. The ImageNet weights lie where train.py is run. A step is of 128 regions,
32 of them objects, of four images. Departures: torchvision's AlexNet and its weights, and those in `rcnn`.
"""

from jaxvision import config as configs

STEPS = 70_000
WEIGHTS = {"alexnet": "alexnet-owt-7be5be79.pth", "vgg16": "vgg16-397923af.pth"}


def get_config(trunk="alexnet"):
    if trunk not in WEIGHTS:
        raise ValueError(f"trunk {trunk!r} is not one of {', '.join(WEIGHTS)}.")
    config = configs.default()
    config.steps = STEPS
    config.batch_size = 4
    config.architecture = dict(
        name="rcnn", trunk=trunk, side=227 if trunk == "alexnet" else 224, samples=32, classifier="svm", chunk=256
    )
    config.data.source = "tfds:voc/2007"
    config.data.train = "train+validation"
    config.data.validation = "test"
    config.data.canvas = ((384, 512), (512, 384))
    config.data.max_boxes = 64
    config.data.workers = 16
    config.data.proposals = dict(method="selective_search", strategy="fast", width=500, min_size=20, count=2000)
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "step:20000,40000,60000"
    config.optimizer.weight_decay = 5e-4
    config.optimizer.factors = (("^logits/bias", 20.0), ("^logits/", 10.0), ("bias$", 2.0))
    config.evaluate.every = STEPS
    config.checkpoint.every = 5000
    config.stages = stages(trunk)
    return config


def stages(trunk, layers="trunk|fc6|fc7"):
    """Tuning from ImageNet's weights of the layers, SVMs, boxes."""
    tune = dict(
        name="tune",
        architecture=dict(classifier="softmax"),
        data=dict(transforms=dict(flip={})),
        init=((f"^({layers})/", f"{trunk}:{WEIGHTS[trunk]}"),),
    )
    svms = dict(name="svms", fit="fit_svms", init=((".*", "tune"),))
    boxes = dict(name="boxes", fit="fit_boxes", init=((".*", "svms"),))
    return tune, svms, boxes
