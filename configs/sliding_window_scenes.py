"""Patches of 38 x 38 pixels, classified at every pixel of the embedded scenes, from scratch.

python train.py --config=configs/sliding_window_scenes.py --workdir=runs/sliding_window_scenes

reaches: mean_iu 0.23 validation and test seed 0 600 s
"""

from configs import fcn8s_scenes


def get_config():
    config = fcn8s_scenes.get_config()
    config.steps = 1400
    config.batch_size = 8
    config.architecture = dict(
        name="sliding_window", widths=(16, 32, 48), fc=128, samples=48, dropout=0.1, norm="batch"
    )
    config.evaluate.every = 700
    return config
