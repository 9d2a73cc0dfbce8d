"""Which detection is of which object, by PASCAL VOC's rule."""

from typing import NamedTuple

import numpy as np

from jaxvision.data.overlaps import covered, iou


def marks(truth) -> tuple[np.ndarray, np.ndarray]:
    """Which objects (m,) are difficult, and which are crowds; none where the truth does not say."""
    none = np.zeros(len(truth["classes"]), bool)
    return np.asarray(truth.get("difficult", none), bool), np.asarray(truth.get("crowd", none), bool)


class Judged(NamedTuple):
    """The detections of an image, best first, beside its objects.

    classes, scores: (n,). right: (n,) bool, true positives. aside: (n,) bool, those that count neither as right nor wrong.
    overlaps: (n, m) IoU with each object. objects: (m,) their classes. counted: (m,) bool, those that are to be found.
    """

    classes: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    aside: np.ndarray
    overlaps: np.ndarray
    objects: np.ndarray
    counted: np.ndarray


def judge(result, truth, threshold: float = 0.5) -> Judged:
    """VOC's rule: a detection takes the object of its class that it overlaps most, by more than the threshold.

    The first of an object, by score and then by row, is right, and any further one is wrong: it does not take the next best.
    Where the object is difficult, the detection is set aside. So is one that is not right and lies by more than the
    threshold of itself in a crowd of its class, of which VOC has none.

    result: boxes (n, 4), classes, scores. truth: boxes (m, 4), classes, and as far as given difficult and crowd (m,).
    Raises ValueError for other shapes and for numbers that are not finite.
    """
    boxes, classes, scores = (np.asarray(result[name]) for name in ("boxes", "classes", "scores"))
    count = len(scores)
    for name, array, shape in (
        ("boxes", boxes, (count, 4)),
        ("classes", classes, (count,)),
        ("scores", scores, (count,)),
    ):
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{name} have shape {array.shape}, expected {shape}, or are not finite")
    order = np.argsort(-scores, kind="stable")
    boxes, classes, scores = boxes[order], classes[order].astype(int), scores[order]
    objects = np.asarray(truth["classes"]).astype(int)
    difficult, crowd = marks(truth)
    overlaps = iou(boxes, truth["boxes"])
    right, aside = np.zeros(count, bool), np.zeros(count, bool)
    if count and len(objects):
        same = classes[:, None] == objects
        own = np.where(same & ~crowd, overlaps, -1)
        best = own.argmax(axis=1)
        found = own.max(axis=1) > threshold
        aside = found & difficult[best]
        rows = np.flatnonzero(found & ~aside)
        right[rows[np.unique(best[rows], return_index=True)[1]]] = True
        aside |= ~right & (same & crowd & (covered(boxes, truth["boxes"]) > threshold)).any(axis=1)
    return Judged(classes, scores, right, aside, overlaps, objects, ~(difficult | crowd))
