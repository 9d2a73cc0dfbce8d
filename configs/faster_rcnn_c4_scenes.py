"""A small Faster R-CNN on one map of a ResNet, whose last stage looks at the regions, on the embedded scenes.

python train.py --config=configs/faster_rcnn_c4_scenes.py --workdir=runs/faster_rcnn_c4_scenes

reaches: (not measured yet)
"""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.steps = 2600
    config.architecture = dict(
        name="faster_rcnn",
        backbone="resnet18_c4",
        depths=(1, 2, 1),  # of three stages: objects of 16 to 64 pixels want a map of stride 8
        widths=(48, 96, 144),
        stem="stride",
        stem_width=24,
        norm="batch",
        head_norm="group",
        anchor_sizes=((16, 23, 32, 45, 64, 90),),
        border_anchors=True,  # most of the large ones cross it on 128 pixels
        rpn_features=96,
        rpn_samples=128,
        rpn_min_side=4,
        pre_nms=(256, 256),
        post_nms=(64, 96),
        samples=32,
        positive_fraction=0.5,
        roi_impl="einsum",
        box_size=8,
        stage_stride=2,
        detections=20,
        candidates=128,
    )
    config.data.test = "test"
    config.evaluate.every = 1300
    return config
