"""What boxes share, in float64 on the host."""

import numpy as np


def iou(a, b) -> np.ndarray:
    """IoU (n, m) of boxes (n, 4) with boxes (m, 4), x1 y1 x2 y2; 0 where both are without area.

    x2, y2 are right and lower edges, so that VOC's IoU of whole pixels, whose sides are xmax - xmin + 1, is the same number.
    """
    a, b, shared = _shared(a, b)
    return _ratio(shared, _area(a)[:, None] + _area(b) - shared)


def covered(a, b) -> np.ndarray:
    """The share (n, m) of each box (n, 4) that lies in each of the boxes (m, 4): COCO's overlap with crowds."""
    a, b, shared = _shared(a, b)
    return _ratio(shared, np.broadcast_to(_area(a)[:, None], shared.shape))


def _area(boxes):
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _shared(a, b):
    a, b = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (a, b))
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    return a, b, sides.clip(0).prod(axis=2)


def _ratio(shared, whole):
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
