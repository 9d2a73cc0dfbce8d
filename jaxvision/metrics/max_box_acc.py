"""MaxBoxAcc and MaxBoxAccV2: boxes made of maps, at the threshold that suits the whole set best.

Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020, and its extension of 2020 (V2).
"""

import cv2
import numpy as np

from jaxvision.data.overlaps import iou
from jaxvision.metrics.score_maps import resize_map, unit_range

SIDE = 224  # at which maps are looked at
THRESHOLDS = np.arange(0, 1, 0.001)
IOUS = (0.3, 0.5, 0.7)


def score_map(evidence, side: int = SIDE) -> np.ndarray:
    """A map (h, w) of any size as the protocol takes it: (side, side) in 0..1, enlarged bicubically."""
    return unit_range(resize_map(evidence, (side, side), cubic=True))


def contour_boxes(score: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    """(boxes (n, 4) of the contours of a map (H, W) uint8 above `level`, those of holes too; the areas of the contours).

    x1 y1 x2 y2 as the protocol counts them: x2 = min(x1 + width, W - 1), whose pixel belongs to the box. Without any
    contour there is the one box 0 0 0 0.
    """
    above = cv2.threshold(score, level, 255, cv2.THRESH_BINARY)[1]
    contours = cv2.findContours(above, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not contours:
        return np.zeros((1, 4)), np.zeros(1)
    boxes = np.array([cv2.boundingRect(contour) for contour in contours], float)
    boxes[:, 2:] = np.minimum(boxes[:, :2] + boxes[:, 2:], np.array(score.shape[::-1]) - 1)
    return boxes, np.array([cv2.contourArea(contour) for contour in contours])


class MaxBoxAcc:
    """Counts, for each threshold, the images whose box made of the map overlaps an object by an IoU of 0.3, 0.5, 0.7.

    MaxBoxAcc takes the contour that encloses most, at an IoU of 0.5; V2 takes the best of all contours, and the mean over
    the three IoUs. The threshold is the best one of the whole set, for each IoU its own.
    """

    def __init__(self):
        self.count = 0
        self.largest, self.best = np.zeros((2, len(IOUS), len(THRESHOLDS)), np.int64)

    def update(self, score: np.ndarray, truth_boxes, size: tuple[int, int]) -> None:
        """Adds an image: `score_map` of the evidence of its class, its boxes (M, 4), M >= 1, and its (height, width).

        Boxes have x2 as right edge; the last pixel inside, x2 - 1, is scaled to the map and rounded down, as in the protocol.
        Raises ValueError for a map beyond 0..1 and an image without a box.
        """
        score, boxes = np.asarray(score), np.asarray(truth_boxes, np.float64)
        if score.ndim != 2 or not (score.min() >= 0 and score.max() <= 1):
            raise ValueError(f"a score map is of shape {score.shape} and must be (H, W) with values in 0..1")
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
            raise ValueError(f"truth_boxes have shape {boxes.shape}, expected (M, 4) with at least one box")
        ratio = np.array([score.shape[1] / size[1], score.shape[0] / size[0]] * 2)
        boxes = np.trunc((boxes - [0, 0, 1, 1]) * ratio) + [0, 0, 1, 1]
        score = (score * 255).astype(np.uint8)
        levels = (THRESHOLDS * score.max()).astype(int)
        self.count += 1
        for level in np.unique(levels):
            found, areas = contour_boxes(score, int(level))
            overlaps = iou(found + [0, 0, 1, 1], boxes).max(axis=1)
            at = levels == level
            for row, threshold in enumerate(IOUS):
                self.largest[row, at] += overlaps[areas.argmax()] >= threshold
                self.best[row, at] += overlaps.max() >= threshold

    def merge(self, other: "MaxBoxAcc") -> None:
        self.count += other.count
        self.largest += other.largest
        self.best += other.best

    def curves(self) -> dict[float, np.ndarray]:
        """{IoU: (thresholds,) the share of images that the largest contour's box finds}. Raises ValueError without images."""
        if not self.count:
            raise ValueError("no image was given, so there is nothing to score")
        return {threshold: row / self.count for threshold, row in zip(IOUS, self.largest)}

    def compute(self) -> dict[str, float]:
        """`max_box_acc` and `max_box_acc_v2`. Raises ValueError if no image was given."""
        return {
            "max_box_acc": float(self.curves()[0.5].max()),
            "max_box_acc_v2": float((self.best / self.count).max(axis=1).mean()),
        }
