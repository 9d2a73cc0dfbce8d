"""ACoL on a narrow VGG with BatchNorm, on scenes of one object, from scratch.

python train.py --config=configs/acol_scenes.py --workdir=runs/acol_scenes

reaches: (not measured yet)

Controls: --config.architecture.branches=plain, two heads of which neither is erased for the other, and
--config.architecture.branches=one, the first head alone.
"""

from configs import cam_scenes


def get_config():
    config = cam_scenes.get_config()
    config.steps = 1300
    config.architecture = dict(
        name="acol",
        backbone=dict(name="vgg", depths=(1, 2, 2, 1), widths=(16, 24, 48, 96), norm="batch", last_pool=False),
        layer="c4",
        width=96,
        norm="batch",
    )
    config.evaluate.every = 1300
    return config
