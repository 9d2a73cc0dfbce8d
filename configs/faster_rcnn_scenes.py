"""A small Faster R-CNN on the embedded scenes: configs/mask_rcnn_scenes.py without masks.

python train.py --config=configs/faster_rcnn_scenes.py --workdir=runs/faster_rcnn_scenes

reaches: box/AP 0.58 validation and test seed 0 600 s
"""

from configs import mask_rcnn_scenes

MASKS = ("mask_convs", "mask_sampling_ratio", "max_positives")


def get_config():
    config = mask_rcnn_scenes.get_config()
    config.steps = 3200
    for option in MASKS:
        del config.architecture[option]
    config.architecture.name = "faster_rcnn"
    config.evaluate.every = 1600
    return config
