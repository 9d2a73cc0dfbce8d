"""Fourteen joints by direct regression, on the embedded people, from scratch on two CPU cores.

python train.py --config=configs/pose_scenes.py --workdir=runs/pose_scenes

reaches: (not measured yet)
"""

from configs import classification_localization_scenes


def get_config():
    config = classification_localization_scenes.get_config()
    config.steps = 2200
    config.architecture = dict(
        name="pose",
        joints=14,
        backbone=classification_localization_scenes.TRUNK,
        loss="smooth_l1",
        cells=4,
        fc=(256,),
        dropout=0.0,
    )
    config.losses = {}
    config.data.source = "scenes/people"
    config.data.transforms = dict(window_jitter=dict(amount=0.1), flip={})  # they stand upright
    return config
