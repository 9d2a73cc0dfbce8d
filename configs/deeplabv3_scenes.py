"""A narrow DeepLabv3 on the embedded scenes, from scratch: maps of 16 x 16 cells, and rates that fit into them.

python train.py --config=configs/deeplabv3_scenes.py --workdir=runs/deeplabv3_scenes

reaches: mean_iu 0.58 validation and test seed 0 600 s
"""

from configs import fcn8s_scenes


def get_config():
    config = fcn8s_scenes.get_config()
    config.steps = 2400
    config.architecture = dict(
        name="deeplabv3",
        depths=(2, 2, 3, 2),
        widths=(16, 24, 32, 48),
        stem="stride",
        stem_width=16,
        features=48,
        rates=(2, 4, 6),
        dropout=0.1,
    )
    config.evaluate.every = 1200
    return config
