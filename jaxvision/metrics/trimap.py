"""Scores of a segmentation near the borders of its regions."""

from collections.abc import Sequence

import cv2
import numpy as np

from jaxvision.metrics.confusion import ConfusionMatrix


class TrimapIU:
    """Mean IU of the pixels that lie within some pixels of a border in the truth, for each of several widths.

    Kohli, Ladicky & Torr, "Robust Higher Order Potentials", IJCV 2009. A pixel with another class beside it, above it or
    below it is at a distance of 0, and a band of width w holds distances below w. Ignored pixels are no class of their
    own but make a border, as VOC's do, and are not scored themselves.
    """

    def __init__(self, num_classes: int, widths: Sequence[int] = (1, 3, 5, 10, 20), ignore: int = 255):
        self.num_classes, self.ignore = num_classes, ignore
        self.matrices = {width: ConfusionMatrix(num_classes, ignore) for width in widths}

    def update(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Adds maps of classes (H, W). Raises ValueError as `ConfusionMatrix.update` does."""
        distance = border_distance(np.asarray(truth))
        inner, band = 0, ConfusionMatrix(self.num_classes, self.ignore)  # grows outwards: each pixel is counted once
        for width, matrix in sorted(self.matrices.items()):
            band.update(predicted, np.where((inner <= distance) & (distance < width), truth, self.ignore))
            matrix.merge(band)
            inner = width

    def merge(self, other: "TrimapIU") -> None:
        for width, matrix in self.matrices.items():
            matrix.merge(other.matrices[width])

    def compute(self) -> dict[str, float]:
        """`trimap_iu@WIDTH` for each width; nan where no pixel lay in the band."""
        return {
            f"trimap_iu@{width}": matrix.compute()["mean_iu"] if matrix.matrix.any() else float("nan")
            for width, matrix in self.matrices.items()
        }


def border_distance(classes: np.ndarray) -> np.ndarray:
    """Distance (H, W) of each pixel to the nearest one that has a neighbour of another class; inf where there is none."""
    border = np.zeros(classes.shape, bool)
    for axis in (0, 1):
        near, far = (np.moveaxis(a, axis, 0) for a in (classes, border))
        change = near[1:] != near[:-1]
        far[1:] |= change
        far[:-1] |= change
    if not border.any():
        return np.full(classes.shape, np.inf)
    return cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
