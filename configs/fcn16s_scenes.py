"""A narrow FCN-16s on the embedded scenes, from scratch: FCN-8s without its finest skip.

python train.py --config=configs/fcn16s_scenes.py --workdir=runs/fcn16s_scenes

reaches: mean_iu 0.50 validation and test seed 0 600 s
"""

from configs import fcn8s_scenes


def get_config():
    config = fcn8s_scenes.get_config()
    config.steps = 1200
    config.architecture.name = "fcn16s"
    config.evaluate.every = 600
    return config
