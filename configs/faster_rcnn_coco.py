"""Faster R-CNN R50-FPN on COCO as torchvision trains it; --config=configs/faster_rcnn_coco.py:v2 is its second version.

python train.py --config=configs/faster_rcnn_coco.py --workdir=runs/faster_rcnn_coco

reaches: (not measured here; torchvision publishes box/AP 0.370 for v1 and 0.467 for v2 on val2017)

`config.data.dir` is the folder of annotations/, train2017/ and val2017/; the ImageNet weights lie where train.py is run.
v1 is published in torchvision's references/detection for eight devices of two images each, v2 in
https://github.com/pytorch/vision/pull/5763 for 32: BatchNorm over all of them, and large-scale jitter, which there fills
squares of 1024 pixels and here the canvas. Weight decay leaves out biases and normalisation; torchvision's v1 has it there too.
"""

from jaxvision import config as configs

IMAGES = 117_266  # with objects


def get_config(version="v1"):
    if version not in ("v1", "v2"):
        raise ValueError(f"version {version!r} is not v1 or v2.")
    config = configs.default()
    config.batch_size = 16
    epoch = IMAGES // config.batch_size
    config.steps = 26 * epoch
    config.architecture = dict(name="faster_rcnn", backbone="resnet50_fpn", aligned=False)
    config.data.source = "coco"
    config.data.train = "annotations/instances_train2017.json:train2017"
    config.data.validation = "annotations/instances_val2017.json:val2017"
    config.data.canvas = ((800, 1088), (800, 1344), (1088, 800), (1344, 800))
    config.data.workers = 16
    config.data.transforms = dict(flip={})
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.02
    config.optimizer.schedule = f"step:{16 * epoch},{22 * epoch}"
    config.optimizer.warmup = 1000
    config.optimizer.weight_decay = 1e-4
    config.optimizer.trainable = r"^(?!trunk)|^trunk/c[345]_block\d+/(conv\d|shortcut)/"  # no frozen norms either
    config.init = (("^trunk/", "resnet50:resnet50-0676ba61.pth"),)
    config.evaluate.every = epoch
    config.checkpoint.every = epoch
    if version == "v2":
        config.batch_size = 64
        epoch = IMAGES // config.batch_size
        config.steps = 400 * epoch
        config.architecture.update(rpn_convs=2, box_convs=(256,) * 4, box_fcs=1)
        config.architecture.update(norm="batch", fpn_norm="batch", head_norm="batch")
        config.data.transforms.scale_jitter = dict(low=0.1, high=2.0)
        config.optimizer.learning_rate = 0.1
        config.optimizer.schedule = f"step:{352 * epoch},{384 * epoch}"
        config.optimizer.weight_decay = 4e-5
        config.optimizer.trainable = "^(?!trunk)|^trunk/c[345]_"
        config.evaluate.every = 10 * epoch
        config.checkpoint.every = epoch
    return config
