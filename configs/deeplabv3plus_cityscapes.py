"""DeepLabv3+ on Cityscapes by the paper; --config=configs/deeplabv3plus_cityscapes.py:resnet101 begins from ImageNet weights.

python train.py --config=configs/deeplabv3plus_cityscapes.py --workdir=runs/deeplabv3plus_cityscapes

reaches: (not measured here; the paper has mean IU 0.7879 on validation for xception65)

Cityscapes is TFDS's, prepared in `config.data.dir`. Crops of 769 pixels, 90,000 steps; all else is
configs/deeplabv3plus_voc.py's. Validation images are seen whole, 1024 x 2048 pixels, four at a time.
"""

from configs import deeplabv3plus_voc


def get_config(backbone="xception65"):
    config = deeplabv3plus_voc.get_config(backbone)
    config.steps = 90_000
    config.data.source = "tfds:cityscapes"
    config.data.train = "train"
    config.data.validation = "validation"
    config.data.canvas = (769, 769)
    config.data.transforms.crop = dict(height=769, width=769)
    config.evaluate.canvas, config.evaluate.batch_size = (1024, 2048), 4
    config.evaluate.every = config.checkpoint.every = 9000
    return config
