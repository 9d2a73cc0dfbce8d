"""Every field of a batch and of a prediction: its shape, dtype and meaning.

A batch is a dict of arrays with a leading B. Letters in shapes: H, W the canvas; N `max_boxes`; P proposals; K joints,
M the side of an instance's mask grid; C classes. Only the fields that the architecture's task needs are present.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Field:
    shape: tuple[str | int, ...]
    dtype: type
    meaning: str
    fill: int = 0  # of padding


IMAGE = {
    "image": Field(("H", "W", 3), np.uint8, "RGB on the canvas; or float32 in 0..1"),
    "image_size": Field((2,), np.int32, "height, width of the part of the canvas that the image covers"),
    "real": Field((), np.bool_, "False on rows that only fill the last batch of an evaluation; absent: all are real"),
}
TRUTH = {
    "label": Field((), np.int32, "class of the image"),
    "labels": Field(("C",), np.bool_, "classes of the image, where it may have several"),
    "other_label": Field((), np.int32, "class of the picture that is mixed with the image"),
    "other_labels": Field(("C",), np.bool_, "classes of the picture that is mixed with the image"),
    "mix": Field((), np.float32, "the image's own share of a mixed picture; absent: nothing is mixed"),
    "boxes": Field(("N", 4), np.float32, "x1 y1 x2 y2 in pixels of the canvas, x2 the right edge"),
    "classes": Field(("N",), np.int32, "1 .. num_classes - 1; 0 is background"),
    "valid": Field(("N",), np.bool_, "rows that are objects to learn from: not padding, crowd or difficult"),
    "crowd": Field(("N",), np.bool_, "COCO's iscrowd: one box over many instances"),
    "difficult": Field(("N",), np.bool_, "VOC's difficult"),
    "area": Field(("N",), np.float32, "pixels of the visible mask"),
    "masks": Field(("N", "M", "M"), np.uint8, "1 where the instance is, on a grid over its mask_box"),
    "mask_boxes": Field(("N", 4), np.float32, "the frame that the mask's grid covers"),
    "keypoints": Field(("N", "K", 3), np.float32, "x, y, and visibility: 0 unlabelled, 1 hidden, 2 visible"),
    "semantic": Field(("H", "W"), np.int32, "class of the pixel; 255 is ignored", 255),
    "semantic_labels": Field(("H", "W", "C"), np.bool_, "classes of the pixel, where it may have several"),
    "pixel_weights": Field(("H", "W"), np.float32, "weight of the pixel in the loss; absent: all weigh the same"),
}
REGIONS = {
    "proposals": Field(("P", 4), np.float32, "proposed regions, x1 y1 x2 y2 in pixels of the canvas, best first"),
    "proposals_valid": Field(("P",), np.bool_, "rows that hold a proposal"),
}
INPUTS = {**IMAGE, **REGIONS}  # all that a network may look at to predict
FIELDS = {**INPUTS, **TRUTH}

# Known to the host alone and taken off before a batch goes to the devices.
HOST = {
    "image_id": Field((), np.int64, "the source's id of the image"),
    "original_size": Field((2,), np.int32, "height, width of the image before it was fitted to the canvas"),
    "overflow": Field((), np.int32, "objects of the image beyond max_boxes, left out of this batch"),
    "skipped": Field((), np.int32, "unreadable images passed over to fill this row"),
    "lost_boxes": Field((), np.int32, "objects of no width or height on the canvas, not learnt from"),
    "lost_proposals": Field((), np.int32, "proposals of under a pixel on the canvas, left out of this batch"),
}

PREDICTIONS = {
    "boxes": "B,N,4 float32, pixels of the canvas, best first",
    "classes": "B,N int32 in 1 .. num_classes - 1; for a classifier absent",
    "scores": "B,N float32",
    "valid": "B,N bool: rows that hold a detection",
    "masks": "B,N,m,m float32: probabilities on a grid over the row's box",
    "keypoints": "B,N,K,3 float32: x, y in pixels of the canvas, and 1",
    "keypoint_scores": "B,N,K float32: the logits of their heat-maps there",
    "semantic": "B,H,W int32: class of the pixel",
    "probabilities": "B,K float32: of the image's classes",
    "class_maps": "B,h,w,K float32: evidence of each class on a grid over the canvas",
    "map_extent": "B,2 float32: rows and columns of class_maps that the image covers",
    "class_boxes": "B,K,4 float32, pixels of the canvas: the box of each class",
    "joints": "B,J,3 float32: x, y in pixels of the canvas, and 1, of the image's one person",
}


def split_host(batch: Mapping[str, np.ndarray]) -> tuple[dict, dict]:
    """(fields for the devices, fields for the host)."""
    device = {k: v for k, v in batch.items() if k not in HOST}
    return device, {k: v for k, v in batch.items() if k in HOST}


def real_rows(batch: Mapping) -> "np.ndarray | None":
    """`real`, or None where every row is."""
    return batch.get("real")


def blank(
    fields: Sequence[str],
    canvas: tuple[int, int],
    batch_size: int = 1,
    *,
    max_boxes: int = 1,
    mask_size: int = 112,
    joints: int = 0,
    proposals: int = 1,
    classes: int = 1,
) -> dict[str, np.ndarray]:
    """A batch of empty images without any object: what a model needs to create its variables."""
    height, width = canvas
    letters = {"H": height, "W": width, "N": max_boxes, "P": proposals, "K": joints, "M": mask_size, "C": classes}
    batch = {
        name: np.full(
            (batch_size, *(letters.get(s, s) for s in FIELDS[name].shape)), FIELDS[name].fill, FIELDS[name].dtype
        )
        for name in ("image", *fields)
    }
    batch["image_size"] = np.tile(np.array(canvas, np.int32), (batch_size, 1))
    batch["real"] = np.ones(batch_size, bool)
    return batch
