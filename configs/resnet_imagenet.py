"""ResNet-50 on ImageNet by torchvision's first recipe; --config=configs/resnet_imagenet.py:resnet18 is another of its family.

python train.py --config=configs/resnet_imagenet.py --workdir=runs/resnet_imagenet

reaches: (not measured here; torchvision's IMAGENET1K_V1 has top1 0.76130 and top5 0.92862 for resnet50, in the middle of
pictures of 256 pixels; the authors have 0.753 and 0.922)

TFDS's imagenet2012 must be prepared first (docs/config.md). Batches of 256, 90 epochs, rate 0.1 with a tenth of it every 30
epochs, momentum 0.9, decay 1e-4, crops by the area and the ratio, mirrored.

Departures: biases and normalisation do not decay; validation pictures are squashed to the canvas, not cut in the middle;
crops are resized without antialiasing.
"""

from jaxvision import config as configs

EPOCH = 1_281_167 // 256


def get_config(trunk="resnet50"):
    config = configs.default()
    config.steps = 90 * EPOCH
    config.batch_size = 256
    config.architecture = dict(name="resnet", trunk_name=trunk)
    config.data.source = "tfds:imagenet2012"
    config.data.canvas = (224, 224)
    config.data.stretch = True
    config.data.workers = 16
    config.data.transforms = dict(random_resized_crop=dict(height=224, width=224), flip={})
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.learning_rate = 0.1
    config.optimizer.schedule = f"step:{30 * EPOCH},{60 * EPOCH}"
    config.optimizer.weight_decay = 1e-4
    config.evaluate.every = config.checkpoint.every = 5 * EPOCH
    return config
