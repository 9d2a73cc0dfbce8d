"""A narrow network in network with BatchNorm that says which object a scene shows, from scratch.

python train.py --config=configs/nin_scenes.py --workdir=runs/nin_scenes

Four blocks, as ImageNet's form has them, for scenes of 128 pixels.

reaches: (not measured yet)
"""

from configs import resnet_scenes


def get_config():
    config = resnet_scenes.get_config()
    config.architecture = dict(
        name="nin",
        blocks=(
            (5, 2, 2, (32, 32, 24)),
            (5, 1, 2, (48, 48, 48)),
            (3, 1, 1, (96, 96, 96)),
            (3, 1, 1, (160, 160)),
        ),
        dropout=0.1,
        norm="batch",
    )
    return config
