"""A narrow FCN-32s on the embedded scenes, from scratch: FCN-8s without its skips.

python train.py --config=configs/fcn32s_scenes.py --workdir=runs/fcn32s_scenes

reaches: (not measured yet)
"""

from configs import fcn8s_scenes


def get_config():
    config = fcn8s_scenes.get_config()
    config.architecture.name = "fcn32s"
    return config
