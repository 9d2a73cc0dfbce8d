"""Small recipes of real architectures, for tests that train: a few thousand parameters on a canvas of 64 pixels."""

from jaxvision import config as configs

FCN8S = dict(
    name="fcn8s",
    depths=(1, 1, 1, 1, 1),
    widths=(8, 8, 12, 12, 16),
    fc=16,
    input_pad=1,
    fc6_pad=3,
    dropout=0.0,
    deconv="fixed",
)
MASK_RCNN = dict(
    name="mask_rcnn",
    backbone="resnet18_fpn",
    depths=(1, 1, 1, 1),
    widths=(8, 8, 12, 12),
    stem="stride",
    stem_width=8,
    norm="batch",
    fpn=8,
    anchor_sizes=((16,), (24,), (32,), (48,), (64,)),
    rpn_samples=32,
    pre_nms=(16, 16),
    post_nms=(12, 12),
    roi_levels=("p2",),
    samples=12,
    positive_fraction=0.5,
    sampling_ratio=1,
    mask_sampling_ratio=1,
    roi_impl="einsum",
    box_features=16,
    box_fcs=1,
    mask_convs=(8,),
    box_size=4,
    mask_size=4,
    class_agnostic=True,
    detections=5,
    candidates=16,
)
RESNET = dict(
    name="resnet",
    trunk_name="resnet18",
    depths=(1, 1, 1, 1),
    widths=(8, 8, 12, 12),
    stem="stride",
    stem_width=8,
)
ARCHITECTURES = {"fcn8s": FCN8S, "mask_rcnn": MASK_RCNN, "resnet": RESNET}


def tiny_config(name: str = "fcn8s", data_dir: str = "", **changes):
    """A config of 4 steps of 4 images on scenes/shapes (the classifier: scenes/single), nothing random but the order.

    changes: nested dicts as `jaxvision.config.override` takes them, e.g. `optimizer={"name": "sgd"}`.
    """
    config = configs.default()
    config.steps = 4
    config.batch_size = 4
    config.log_every = 1
    config.architecture = ARCHITECTURES[name]
    config.data.source = "scenes/single" if name == "resnet" else "scenes/shapes"
    config.data.dir = data_dir
    config.data.canvas = (64, 64)
    config.data.max_boxes = 6
    config.data.workers = 0
    config.evaluate.every = 1000
    config.checkpoint.every = 1000
    return configs.override(config, changes)
