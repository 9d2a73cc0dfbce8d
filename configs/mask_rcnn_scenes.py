"""A small Mask R-CNN as published: outputs for every class, RoIs from the pyramid level of their size.

python train.py --config=configs/mask_rcnn_scenes.py --workdir=runs/mask_rcnn_scenes

reaches: (not measured yet)
"""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.steps = 3600
    config.architecture.update(
        roi_levels=("p2", "p3", "p4"),
        canonical_size=96,
        class_agnostic=False,
        mask_convs=(48, 48, 48),
    )
    config.data.test = "test"
    config.evaluate.every = 1800
    return config
