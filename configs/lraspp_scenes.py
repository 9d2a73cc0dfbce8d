"""Lite R-ASPP on half of the channels of a small MobileNetV3, on the embedded scenes from scratch.

python train.py --config=configs/lraspp_scenes.py --workdir=runs/lraspp_scenes

reaches: mean_iu 0.48 validation and test seed 0 600 s
"""

from configs import fcn8s_scenes


def get_config():
    config = fcn8s_scenes.get_config()
    config.steps = 5000
    config.batch_size = 8  # as many images in twice the steps teach it much more
    config.architecture = dict(
        name="lraspp",
        backbone="mobilenet_v3_small",
        width=0.5,
        stem_stride=1,  # maps of 16 x 16 cells, as the pictures are small
        features=64,
    )
    config.evaluate.every = 2500
    return config
