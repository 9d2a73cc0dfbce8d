"""A small Mask R-CNN as published: outputs for every class, RoIs from the pyramid level of their size.

python train.py --config=configs/mask_rcnn_scenes.py --workdir=runs/mask_rcnn_scenes

reaches: box/AP 0.60 mask/AP 0.54 validation and test seed 0 720 s
"""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.steps = 4400
    config.architecture.update(
        roi_levels=("p2", "p3", "p4"),
        canonical_size=96,
        class_agnostic=False,
        mask_convs=(48, 48, 48),
    )
    config.data.test = "test"
    config.evaluate.every = 2200
    return config
