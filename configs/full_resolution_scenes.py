"""Nine convolutions without downsampling on the embedded scenes, from scratch.

python train.py --config=configs/full_resolution_scenes.py --workdir=runs/full_resolution_scenes

reaches: mean_iu 0.15 validation and test seed 0 600 s
"""

from configs import fcn8s_scenes


def get_config():
    config = fcn8s_scenes.get_config()
    config.steps = 1000
    config.batch_size = 8
    config.architecture = dict(name="full_resolution", widths=(16,) * 9)
    config.evaluate.every = 500
    return config
