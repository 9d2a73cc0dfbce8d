"""A narrow FCN-8s with BatchNorm on the embedded scenes, from scratch.

python train.py --config=configs/fcn8s_scenes.py --workdir=runs/fcn8s_scenes

reaches: mean_iu 0.62 validation and test seed 0 720 s
"""

from jaxvision import config as configs


def get_config():
    config = configs.default()
    config.steps = 3000
    config.batch_size = 16
    config.architecture = dict(
        name="fcn8s",
        depths=(2, 2, 2, 2, 2),
        widths=(16, 32, 64, 96, 128),
        fc=256,
        input_pad=1,
        fc6_kernel=3,
        fc6_pad=1,
        dropout=0.1,
        norm="batch",
    )
    config.data.source = "scenes/shapes"
    config.data.test = "test"
    config.data.canvas = (128, 128)
    config.data.transforms = dict(flip={}, quarter_turn={})
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 100
    config.optimizer.weight_decay = 0.01
    config.optimizer.ema = 0.998
    config.evaluate.every = 1500
    config.checkpoint.every = 500
    return config
