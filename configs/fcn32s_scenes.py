"""A narrow FCN-32s on the embedded scenes, from scratch: FCN-8s without its skips.

python train.py --config=configs/fcn32s_scenes.py --workdir=runs/fcn32s_scenes

reaches: mean_iu 0.35 validation and test seed 0 600 s
"""

from configs import fcn8s_scenes


def get_config():
    config = fcn8s_scenes.get_config()
    config.steps = 1000
    config.architecture.name = "fcn32s"
    config.evaluate.every = 500
    return config
