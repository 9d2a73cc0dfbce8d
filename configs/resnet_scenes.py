"""A narrow ResNet that says which object a scene shows, from scratch.

python train.py --config=configs/resnet_scenes.py --workdir=runs/resnet_scenes

reaches: (not measured yet)
"""

from jaxvision import config as configs


def get_config():
    config = configs.default()
    config.steps = 1500
    config.batch_size = 32
    config.architecture = dict(
        name="resnet",
        trunk_name="resnet18",
        depths=(1, 1, 1, 1),
        widths=(24, 48, 96, 160),
        stem="stride",
        stem_width=16,
    )
    config.data.source = "scenes/single"
    config.data.test = "test"
    config.data.canvas = (128, 128)
    config.data.transforms = dict(flip={})
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 100
    config.optimizer.weight_decay = 0.02
    config.optimizer.ema = 0.995
    config.evaluate.every = 500
    config.checkpoint.every = 500
    return config
