"""Dilated convolutions on the embedded scenes, narrow and from scratch: the front end, then the context module on it.

python train.py --config=configs/dilated_scenes.py --workdir=runs/dilated_scenes

reaches: mean_iu 0.60 validation and test seed 0 600 s
"""

from configs import fcn8s_scenes


def get_config():
    config = fcn8s_scenes.get_config()
    config.steps = 1800
    config.batch_size = 8
    config.architecture = dict(
        name="dilated",
        depths=(2, 2, 2, 2, 2),
        widths=(16, 32, 48, 64, 96),
        fc=192,
        fc6_kernel=3,
        dropout=0.1,
        norm="batch",
        padding="same",
        context="basic",
    )
    config.evaluate.every = 900
    config.stages = (
        dict(name="front_end", architecture=dict(context="none")),
        dict(name="context", steps=600, init=(("^context/", "fresh"), (".*", "front_end")), evaluate=dict(every=600)),
    )
    return config
