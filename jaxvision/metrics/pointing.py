"""The pointing game: does the highest place of a class's map lie on an object of it?

Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016.
"""

import cv2
import numpy as np

from jaxvision.metrics.voc import mean_of_known


class PointingGame:
    """The share of hits of each class, and the mean over classes.

    tolerance: a point that far from an object, in pixels of the image, hits it too; the paper has 15, on pictures of 500.
    """

    def __init__(self, num_classes: int, tolerance: float = 0):
        self.tolerance = tolerance
        self.hits, self.maps = np.zeros((2, num_classes), np.int64)

    def update(self, evidence: np.ndarray, label: int, mask) -> None:
        """Adds a map (H, W) at the image's size, its class in 0..C-1 and the mask (H, W) of the objects of that class.

        Of equal values the first by rows is the point; a constant map points nowhere and misses.
        Raises ValueError for another shape, a mask without a pixel, and a class that there is not.
        """
        evidence, mask = np.asarray(evidence), np.asarray(mask, bool)
        if evidence.shape != mask.shape or evidence.ndim != 2 or not mask.any():
            raise ValueError(
                f"a map of shape {evidence.shape} needs a mask of that shape with a pixel, got {mask.shape}"
            )
        if not 0 <= label < len(self.maps):
            raise ValueError(f"class {label} is not among 0..{len(self.maps) - 1}")
        y, x = np.unravel_index(evidence.argmax(), evidence.shape)
        if evidence.min() < evidence.max():
            away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            self.hits[label] += away[y, x] <= self.tolerance
        self.maps[label] += 1

    def merge(self, other: "PointingGame") -> None:
        self.hits += other.hits
        self.maps += other.maps

    def table(self) -> np.ndarray:
        """(C,) the share of each class; nan for one that has no map."""
        return np.divide(self.hits, self.maps, out=np.full(len(self.maps), np.nan), where=self.maps > 0)

    def compute(self) -> float:
        """The mean over the classes that have maps. Raises ValueError if there are none."""
        if not self.maps.any():
            raise ValueError("no image was given, so there is nothing to score")
        return mean_of_known(self.table())
