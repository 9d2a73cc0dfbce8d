"""A small classifier that also says where its object is, on the embedded scenes of one object, from scratch on two CPU cores.

python train.py --config=configs/classification_localization_scenes.py --workdir=runs/classification_localization_scenes

reaches: (not measured yet)
"""

from jaxvision import config as configs

TRUNK = dict(
    name="resnet",
    trunk_name="resnet18",
    depths=(1, 1, 1, 1),
    widths=(32, 64, 96, 128),
    stem="stride",
    stem_width=24,
    norm="batch",
)


def get_config():
    config = configs.default()
    config.steps = 2200
    config.batch_size = 32
    config.architecture = dict(
        name="classification_localization",
        backbone=TRUNK,
        per_class=False,  # what is seen of an object says where it is, whatever its class
        loss="smooth_l1",
        cells=4,  # of 32 pixels: the map as it is
        fc=(256,),
        dropout=0.0,
    )
    config.losses = dict(box=10.0)  # examples/choose_alpha.py tries others
    config.data.source = "scenes/single"
    config.data.test = "test"
    config.data.canvas = (128, 128)
    config.data.stretch = True
    config.data.max_boxes = 1
    config.data.transforms = dict(window_jitter=dict(amount=0.1), flip={}, quarter_turn={})
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 100
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip = 5.0
    config.optimizer.ema = 0.998
    config.evaluate.every = 1100
    return config
