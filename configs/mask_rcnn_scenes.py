"""A small Mask R-CNN as published: outputs for every class, RoIs from the pyramid level of their size.

python train.py --config=configs/mask_rcnn_scenes.py --workdir=runs/mask_rcnn_scenes

reaches: box/AP 0.64 mask/AP 0.54 validation and test seed 0 720 s
"""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.steps = 4200
    config.architecture.update(
        roi_levels=("p2", "p3", "p4"),
        canonical_size=96,
        class_agnostic=False,
        samples=48,
        mask_convs=(32, 32),
        max_positives=6,
    )
    config.data.test = "test"
    config.evaluate.every = 2100
    return config
