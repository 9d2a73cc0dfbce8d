"""Windows around objects: DeconvNet's training data (Noh, Hong & Han, ICCV 2015, section 4.2)."""

import dataclasses

import numpy as np

from jaxvision.data.geometry import IGNORED, MEAN_COLOUR, cut, pad, pieces, resize


@dataclasses.dataclass(frozen=True)
class ObjectCrop:
    """A square around one object, drawn at random, at side x side pixels.

    context: side of the square in longer sides of the object's box. alone: its class keeps its label, all others become
    background, 0: the paper's first stage. jitter: each edge of the box first moves by up to that share of its side, and
    back where less than half is left of the overlap: boxes like the proposals of the second stage, for which the paper
    takes EdgeBox's with an IoU of 0.5.

    Objects are the example's boxes, or without them the connected regions of each class but 0. An image without any is
    one square itself. Departures: squares, where the paper does not say how it makes boxes square; jittered boxes.
    Raises ValueError for arguments that cannot be meant, and an example without a semantic map.
    """

    side: int = 250
    context: float = 1.2
    alone: bool = True
    jitter: float = 0.0

    def __post_init__(self):
        if self.side < 1 or self.context <= 0 or not 0 <= self.jitter < 0.5:
            raise ValueError(f"object_crop: expected side >= 1, context > 0 and 0 <= jitter < 0.5, got {self}")

    def __call__(self, example, rng):
        if "semantic" not in example:
            raise ValueError("object_crop: this source has no semantic maps; leave it out")
        boxes, classes = objects(example)
        height, width = example["image"].shape[:2]
        chosen = rng.integers(len(boxes)) if len(boxes) else None
        box = np.array([0, 0, width, height]) if chosen is None else self._moved(boxes[chosen], rng)
        x1, y1, x2, y2 = box
        side = max(1, round((self.context if chosen is not None else 1) * max(x2 - x1, y2 - y1)))
        left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
        inner = max(top, 0), max(left, 0), min(top + side, height), min(left + side, width)
        window = pad(cut(example, *inner), max(-top, 0), max(-left, 0), side, side, MEAN_COLOUR)
        window = resize(window, self.side, self.side)
        if self.alone and chosen is not None:
            semantic = window["semantic"]
            other = (semantic != classes[chosen]) & (semantic != IGNORED)
            window["semantic"] = np.where(other, semantic.dtype.type(0), semantic)
            if "semantic_labels" in window:
                labels = window["semantic_labels"].copy()
                labels[..., np.arange(labels.shape[-1]) != classes[chosen]] = False
                labels[..., 0] = ~labels[..., classes[chosen]] & (semantic != IGNORED)
                window["semantic_labels"] = labels
        return window

    def _moved(self, box, rng):
        sides = np.tile(box[2:] - box[:2], 2)
        for _ in range(10):
            moved = box + rng.uniform(-self.jitter, self.jitter, 4) * sides
            low, high = np.maximum(box[:2], moved[:2]), np.minimum(box[2:], moved[2:])
            both = np.prod(high - low)
            if both >= 0.5 * (np.prod(sides[:2]) + np.prod(moved[2:] - moved[:2]) - both):
                return moved
        return box


def objects(example) -> tuple[np.ndarray, np.ndarray]:
    """(boxes (N,4) x1 y1 x2 y2, classes (N,)) of an example's objects, or of the regions of its semantic map."""
    boxes, classes = (example["boxes"], example["classes"]) if "boxes" in example else pieces(example["semantic"])
    return np.asarray(boxes, np.float64), np.asarray(classes)
