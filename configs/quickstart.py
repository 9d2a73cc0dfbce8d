"""A small Mask R-CNN on the embedded scenes, from scratch, in a few minutes on two CPU cores.

python train.py --config=configs/quickstart.py --workdir=runs/quickstart

reaches: box/AP 0.55 mask/AP 0.45 validation seed 0 360 s
"""

from jaxvision import config as configs


def get_config():
    config = configs.default()
    config.steps = 1800
    config.batch_size = 8
    config.architecture = dict(
        name="mask_rcnn",
        backbone="resnet18_fpn",
        depths=(1, 2, 2, 1),
        widths=(48, 96, 144, 192),
        stem="stride",
        stem_width=24,
        norm="batch",
        fpn=48,
        fpn_norm="batch",
        head_norm="group",
        anchor_sizes=((16, 23), (32, 45), (64, 90)),
        rpn_samples=128,
        pre_nms=(128, 128),
        post_nms=(64, 96),
        roi_levels=("p2",),
        samples=32,
        positive_fraction=0.5,
        max_positives=4,
        sampling_ratio=2,
        mask_sampling_ratio=2,
        roi_impl="einsum",
        box_features=512,
        box_fcs=1,
        mask_convs=(32,),
        class_agnostic=True,
        detections=20,
        candidates=128,
    )
    config.data.source = "scenes/shapes"
    config.data.canvas = (128, 128)
    config.data.max_boxes = 8
    config.data.transforms = dict(flip={})
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 100
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip = 5.0
    config.optimizer.ema = 0.998
    config.evaluate.every = 1800
    config.checkpoint.every = 600
    return config
