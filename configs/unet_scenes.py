"""A narrow U-Net with BatchNorm on the embedded scenes, from scratch: the variant that keeps the image's size.

The paper's valid convolutions would see three times the pixels at this size; configs/unet_folder.py has them.

python train.py --config=configs/unet_scenes.py --workdir=runs/unet_scenes

reaches: mean_iu 0.60 validation and test seed 0 600 s
"""

from configs import fcn8s_scenes


def get_config():
    config = fcn8s_scenes.get_config()
    config.steps = 2400
    config.batch_size = 8
    config.architecture = dict(name="unet", widths=(12, 24, 48, 96, 128), padding="same", dropout=0.1, norm="batch")
    config.evaluate.every = 1200
    return config
