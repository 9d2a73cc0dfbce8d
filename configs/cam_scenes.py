"""Class activation maps of a narrow VGG with BatchNorm on scenes of one object, from scratch.

python train.py --config=configs/cam_scenes.py --workdir=runs/cam_scenes

reaches: (not measured yet)

Maps of 16 x 16 cells, each cell the middle of its 8 x 8 pixels.
"""

from jaxvision import config as configs


def get_config():
    config = configs.default()
    config.steps = 1600
    config.batch_size = 32
    config.architecture = dict(
        name="cam",
        backbone=dict(name="vgg", depths=(1, 2, 2, 3), widths=(16, 24, 48, 96), norm="batch", last_pool=False),
        layer="c4",
        dropout=0.1,
    )
    config.data.source = "scenes/single"
    config.data.test = "test"
    config.data.canvas = (128, 128)
    config.data.transforms = dict(flip={}, quarter_turn={})
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 100
    config.optimizer.weight_decay = 0.01
    config.optimizer.ema = 0.998
    config.evaluate.every = 1600
    config.checkpoint.every = 400
    return config
