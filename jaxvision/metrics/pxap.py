"""PxAP: the area under the curve of pixels' precision and recall over the thresholds of maps.

Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020.
"""

import cv2
import numpy as np

from jaxvision.metrics.max_box_acc import THRESHOLDS

EDGES = np.concatenate([THRESHOLDS, [1, 2, 3]])  # the value 1 itself has a bin of its own


class PixelAP:
    """Histograms of the values that maps have on objects and beside them, over the pixels of all images."""

    def __init__(self):
        self.inside, self.outside = np.zeros((2, len(EDGES) - 1), np.int64)

    def update(self, score: np.ndarray, mask, ignore=None) -> None:
        """Adds an image: its `score_map` (S, S) in 0..1, the mask (H, W) of its class, and what counts nowhere (H, W).

        Masks are brought to the map's size by the nearest pixel; a pixel that is both object and ignored is object.
        Raises ValueError for a map beyond 0..1 and masks of another shape.
        """
        score, mask = np.asarray(score), np.asarray(mask, bool)
        if score.ndim != 2 or not (score.min() >= 0 and score.max() <= 1):
            raise ValueError(f"a score map is of shape {score.shape} and must be (H, W) with values in 0..1")
        ignore = np.zeros_like(mask) if ignore is None else np.asarray(ignore, bool)
        if mask.ndim != 2 or ignore.shape != mask.shape:
            raise ValueError(f"mask has shape {mask.shape}, ignore {ignore.shape}; expected both (H, W)")
        mask, ignore = (
            cv2.resize(m.astype(np.uint8), score.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
            for m in (mask, ignore)
        )
        self.inside += np.histogram(score[mask], EDGES)[0]
        self.outside += np.histogram(score[~mask & ~ignore], EDGES)[0]

    def merge(self, other: "PixelAP") -> None:
        self.inside += other.inside
        self.outside += other.outside

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Recall and precision at each threshold, from the highest down. Raises ValueError where no pixel is an object's."""
        right, wrong = (counts[::-1].cumsum() for counts in (self.inside, self.outside))
        if not right[-1]:
            raise ValueError("no image with a pixel of an object was given, so there is nothing to score")
        found = right + wrong
        return right / right[-1], np.divide(right, found, out=np.zeros(len(found)), where=found > 0)

    def compute(self) -> float:
        """The sum of the precision times the gain of recall over the thresholds."""
        recall, precision = self.curve()
        return float((precision[1:] * np.diff(recall)).sum())
