"""How well one object an image is found, where every class has a box of its own: top-1, top-5, GT-known, ILSVRC, CorLoc.

Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015; CorLoc: Deselaers et al., Weakly
Supervised Localization and Learning with Generic Knowledge, IJCV 2012.
"""

import numpy as np

from jaxvision.data.overlaps import iou
from jaxvision.metrics.classification import TopK
from jaxvision.metrics.voc import mean_of_known


class CorLoc:
    """The share of the images with a class in which the class's best box hits one of its objects; the mean over classes.

    A box hits at an IoU of the threshold or more; strict: only above it, as VOC's devkit has it. An image may show several
    classes; those that it does not show count nowhere.
    """

    def __init__(self, num_classes: int, threshold: float = 0.5, strict: bool = False):
        self.threshold, self.strict = threshold, strict
        self.hits, self.images = np.zeros((2, num_classes), np.int64)

    def update(self, boxes, truth_boxes, truth_classes) -> None:
        """Adds an image: the best box (C, 4) of each class, its objects (M, 4) and their classes (M,) in 0..C-1.

        Raises ValueError for other shapes, numbers that are not finite and classes that there are not.
        """
        count = len(self.images)
        truth_classes = np.atleast_1d(truth_classes)
        boxes, truth_boxes = _boxes("boxes", boxes, count), _boxes("truth_boxes", truth_boxes, len(truth_classes))
        if truth_classes.size and not 0 <= truth_classes.min() <= truth_classes.max() < count:
            raise ValueError(f"classes are {truth_classes.tolist()}, expected 0..{count - 1}")
        for label in np.unique(truth_classes).astype(int):
            best = iou(boxes[label], truth_boxes[truth_classes == label]).max()
            self.hits[label] += best > self.threshold if self.strict else best >= self.threshold
            self.images[label] += 1

    def merge(self, other: "CorLoc") -> None:
        self.hits += other.hits
        self.images += other.images

    def table(self) -> np.ndarray:
        """(C,) the share of each class; nan for one that no image shows."""
        return np.divide(self.hits, self.images, out=np.full(len(self.images), np.nan), where=self.images > 0)

    def compute(self) -> float:
        """The mean of the classes that some image shows. Raises ValueError if there is none."""
        if not self.images.any():
            raise ValueError("no image was given, so there is nothing to score")
        return mean_of_known(self.table())


class Localization:
    """Of images with a label, an object's box or several of that label, and a predicted box for every class.

    The label's box is right if its IoU with any of the objects is the threshold or more. k: 1, and 5 where there are more
    than five classes.
    """

    def __init__(self, num_classes: int, threshold: float = 0.5):
        self.ks = (1, 5) if num_classes > 5 else (1,)
        self.top, self.corloc = TopK(self.ks), CorLoc(num_classes, threshold)
        self.hits = np.zeros(len(self.ks), np.int64)

    def update(self, probabilities, boxes, label: int, truth_boxes) -> None:
        """Adds an image: probabilities (C,), boxes (C, 4) x1 y1 x2 y2, its label in 0..C-1 and truth_boxes (M, 4), M >= 1.

        Raises ValueError for other shapes, numbers that are not finite, a label that there is not, and no truth at all.
        """
        probabilities, truth_boxes = np.asarray(probabilities), np.asarray(truth_boxes)
        if probabilities.shape != (len(self.corloc.images),):
            raise ValueError(f"probabilities have shape {probabilities.shape}, expected {(len(self.corloc.images),)}")
        if not len(truth_boxes):
            raise ValueError(f"an image of class {label} has no box, so that nothing can be found; leave it out")
        image, found = TopK(self.ks), CorLoc(len(probabilities), self.corloc.threshold)
        image.update(probabilities[None], np.array([label]))
        found.update(boxes, truth_boxes, np.full(len(truth_boxes), label))
        self.hits += image.hits * found.hits[label]
        self.top.merge(image)
        self.corloc.merge(found)

    def merge(self, other: "Localization") -> None:
        self.hits += other.hits
        self.top.merge(other.top)
        self.corloc.merge(other.corloc)

    def compute(self) -> dict[str, float]:
        """Raises ValueError if no image was given.

        `top1`, `top5`: the label is among the k most probable classes. `loc/top1`, `loc/top5`: so it is, and its box is right.
        `loc/top1_error`, `loc/top5_error`: ILSVRC's, the rest to 1; of k guesses, each a class and its box, none is right.
        `loc/gt_known`: the label's box is right, whatever class was guessed. `loc/corloc`: the same as a mean over classes.
        """
        scores, count = self.top.compute(), self.top.count
        for k, hits in zip(self.ks, self.hits):
            scores |= {f"loc/top{k}": float(hits / count), f"loc/top{k}_error": float(1 - hits / count)}
        return scores | {
            "loc/gt_known": float(self.corloc.hits.sum() / count),
            "loc/corloc": self.corloc.compute(),
        }


def _boxes(name, boxes, count):
    boxes = np.asarray(boxes, np.float64)
    if boxes.shape != (count, 4) or not np.isfinite(boxes).all():
        raise ValueError(f"{name} have shape {boxes.shape}, expected {(count, 4)}, or are not finite")
    return boxes
