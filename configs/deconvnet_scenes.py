"""A narrow DeconvNet on the embedded scenes, from scratch: its trunk classifies objects, then single objects, then whole pictures.

python train.py --config=configs/deconvnet_scenes.py --workdir=runs/deconvnet_scenes

reaches: (not measured yet; with 1600 steps for the pictures, mean_iu 0.57)

Four blocks where the paper has five, for pictures of 128 pixels. The first two stages see windows around objects, but are scored on
whole scenes at half their size, of which they know little.
"""

from configs import fcn8s_scenes

TRUNK = dict(depths=(2, 2, 2, 2), widths=(12, 24, 48, 96), norm="batch")


def get_config():
    config = fcn8s_scenes.get_config()
    config.batch_size = 8
    config.architecture = dict(name="deconvnet", fc=256, fc6_kernel=3, start=None, **TRUNK)
    objects = dict(
        source="scenes/single",
        canvas=(64, 64),
        transforms=dict(object_crop=dict(side=64, context=1.5, jitter=0.2), flip={}, quarter_turn={}),
        test="",
    )
    config.stages = (
        dict(
            name="classify",
            architecture=dict(name="cam", backbone=dict(name="vgg", **TRUNK), layer="c4", dropout=0.1),
            data=objects,
            steps=600,
            batch_size=32,
            evaluate=dict(every=600),
        ),
        dict(
            name="objects",
            data=objects,
            init=(("^trunk/", "classify"), (".*", "fresh")),
            steps=1000,
            batch_size=16,
            evaluate=dict(every=500),
        ),
        dict(name="pictures", init=((".*", "objects"),), steps=2400, evaluate=dict(every=1200)),
    )
    return config
