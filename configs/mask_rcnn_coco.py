"""Mask R-CNN R50-FPN on COCO as torchvision trains it; --config=configs/mask_rcnn_coco.py:v2 is its second version.

python train.py --config=configs/mask_rcnn_coco.py --workdir=runs/mask_rcnn_coco

reaches: (not measured here; torchvision publishes box/AP 0.379 mask/AP 0.346 for v1, 0.474 and 0.418 for v2 on val2017)

Everything is as in configs/faster_rcnn_coco.py; v2 is published in https://github.com/pytorch/vision/pull/5773.
"""

from configs import faster_rcnn_coco


def get_config(version="v1"):
    config = faster_rcnn_coco.get_config(version)
    config.architecture.name = "mask_rcnn"
    return config
