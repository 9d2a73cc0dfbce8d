"""Small recipes of real architectures, for tests that train: a few thousand parameters on a canvas of 64 pixels."""

import numpy as np

from jaxvision import config as configs
from jaxvision.data.images import ImageError

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
ARCHITECTURES |= {name: {"name": name} for name in ("segmenter", "detector")}


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


def get_config(name: str = "fcn8s"):
    """For `train.py --config=tests/tiny.py:NAME`."""
    return tiny_config(name)


class Rectangles:
    """A source of noise with coloured rectangles on it, in as many sizes and with as many objects as a test wants.

    sizes: (height, width) of each image. counts: objects of each image, repeated. broken: indices whose file is cut off.
    """

    name = "rectangles"
    class_names = ("background", "red", "green", "blue")
    keypoint_names = flip_pairs = ()
    sigmas = None

    def __init__(self, sizes=((64, 64),) * 16, counts=(2, 0, 3, 1), broken=()):
        self.sizes, self.counts, self.broken = np.array(sizes), counts, broken

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> dict:
        if index in self.broken:
            raise ImageError(f"rectangle_{index}.png: the PNG is cut off")
        example = self.annotations(index)
        image = np.random.default_rng(index).integers(0, 128, (*self.sizes[index], 3), np.uint8)
        for row, mask in zip(example["classes"], example["masks"]):
            image[mask > 0, row - 1] = 255
        return {"image": image, **example}

    def annotations(self, index: int) -> dict:
        height, width = self.sizes[index]
        rng = np.random.default_rng((1, index))
        count = self.counts[index % len(self.counts)]
        low = rng.integers(0, (width // 2, height // 2), (count, 2))
        boxes = np.concatenate([low, low + rng.integers(8, (width // 2, height // 2), (count, 2))], 1)
        masks = np.zeros((count, height, width), np.uint8)
        semantic = np.zeros((height, width), np.int32)
        classes = rng.integers(1, len(self.class_names), count).astype(np.int32)
        for (x1, y1, x2, y2), label, mask in zip(boxes, classes, masks):
            mask[y1:y2, x1:x2] = 1
            semantic[y1:y2, x1:x2] = label
        return {
            "image_id": 100 + index,
            "file": f"rectangle_{index}.png",
            "boxes": boxes.astype(np.float32),
            "classes": classes,
            "crowd": np.zeros(count, bool),
            "area": masks.sum((1, 2)).astype(np.float32),
            "masks": masks,
            "semantic": semantic,
            "label": index % 3,
        }
