"""FCN on a dilated ResNet, for VOC's classes as torchvision trains it; --config=configs/fcn_voc.py:resnet101 is the larger.

python train.py --config=configs/fcn_voc.py --workdir=runs/fcn_voc

reaches: (not measured here; torchvision publishes mean IU 0.605 and pixel accuracy 0.914 for resnet50, 0.637 and 0.919 for
resnet101, on COCO's val2017 with VOC's labels)

`config.data.dir` is the folder of annotations/, train2017/ and val2017/. There voc_train2017.json and voc_val2017.json are
COCO's instances of the twenty categories of VOC alone, numbered 1 to 20 in VOC's order, and for training without the images
that show fewer than 1000 pixels of them. The ImageNet weights lie where train.py is run. Published in torchvision's
references/segmentation, for eight devices of four images each.

Departures: crowds are painted, and where two objects overlap the later one counts, where torchvision ignores the pixel; the
scales 0.54 to 2.17 are its shorter sides of 260 to 1040 for images of 480; norms and biases do not decay; and figures are
taken on the canvas, not at a shorter side of 520.
"""

from jaxvision import config as configs

EPOCH = 2890  # batches of 32: about 92,500 images
WEIGHTS = {"resnet50": "resnet50-0676ba61.pth", "resnet101": "resnet101-63fe2227.pth"}


def get_config(backbone="resnet50"):
    if backbone not in WEIGHTS:
        raise ValueError(f"backbone {backbone!r} is not one of {', '.join(WEIGHTS)}.")
    config = configs.default()
    config.steps = 30 * EPOCH
    config.batch_size = 32
    config.architecture = dict(name="fcn_resnet", backbone=backbone, aux=True)
    config.data.source = "coco"
    config.data.train = "annotations/voc_train2017.json:train2017"
    config.data.validation = "annotations/voc_val2017.json:val2017"
    config.data.canvas = (480, 480)
    config.data.workers = 16
    config.data.transforms = dict(scale_jitter=dict(low=0.54, high=2.17), flip={}, crop=dict(height=480, width=480))
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.02
    config.optimizer.schedule = "poly:0.9"
    config.optimizer.weight_decay = 1e-4
    config.optimizer.factors = (("^aux/", 10.0),)
    config.init = (("^trunk/", f"{backbone}:{WEIGHTS[backbone]}"),)
    config.evaluate.every = EPOCH
    config.checkpoint.every = EPOCH
    return config
