"""Lite R-ASPP on half of a MobileNetV3's channels, on the embedded scenes from scratch.

python train.py --config=configs/lraspp_scenes.py --workdir=runs/lraspp_scenes

reaches: mean_iu 0.48 validation and test seed 0 600 s

This floor is not reached yet: see docs/scores.md.
"""

from configs import fcn8s_scenes


def get_config():
    config = fcn8s_scenes.get_config()
    config.steps = 2000
    config.architecture = dict(name="lraspp", width=0.5, features=64)
    config.evaluate.every = 1000
    return config
