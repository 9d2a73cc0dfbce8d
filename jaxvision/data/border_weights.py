"""U-Net's weight of a pixel in the loss (Ronneberger et al., MICCAI 2015, equation 2): more between objects that are close."""

import dataclasses

import cv2
import numpy as np

from jaxvision.data.geometry import IGNORED

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclasses.dataclass(frozen=True)
class BorderWeights:
    """Adds `pixel_weights` (H, W) float32: w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)), 0 where semantic is ignored.

    d1, d2: distances in pixels of the canvas, between centres, to the border of the nearest and of the second nearest
      instance; its border are its pixels beside one, left, right, above or below, that is not its. Where the picture's edge
      cuts an instance is no border. With fewer than two instances the second term is 0.
    w_c: n / (c n_k) for a pixel of class k, with n counted pixels of c classes in the picture, n_k of class k: each class
      weighs as much, and the mean is 1.
    Instances are the example's masks; without masks the connected parts (of eight neighbours) of each class above 0 in the
    semantic map, where objects of a class that touch are one. Takes no randomness, and runs last, on the canvas.
    Raises ValueError where the example has no semantic map.
    """

    w0: float = 10.0
    sigma: float = 5.0

    def __post_init__(self):
        if self.w0 < 0 or self.sigma <= 0:
            raise ValueError(f"border_weights: expected w0 >= 0 and sigma > 0, got {self.w0} and {self.sigma}")

    def __call__(self, example, rng=None):
        if "semantic" not in example:
            raise ValueError("border_weights: weights go by the semantic map, and this source has none; leave it out")
        semantic = example["semantic"]
        height, width = example.get("image_size", semantic.shape)  # the padding has no part in it
        part = semantic[:height, :width]
        masks = example["masks"][:, :height, :width] if "masks" in example else _components(part)
        nearest, second = _two_nearest(masks, part.shape)
        weights = balance(part) + self.w0 * np.exp(-((nearest + second) ** 2) / (2 * self.sigma**2))
        new = np.zeros(semantic.shape, np.float32)
        new[:height, :width] = np.where(part == IGNORED, 0, weights)
        return {**example, "pixel_weights": new}


def balance(semantic: np.ndarray) -> np.ndarray:
    """(H, W) float64: weights by which all classes of a map count the same and whose mean is 1; 0 where it is ignored."""
    classes, places, counts = np.unique(semantic, return_inverse=True, return_counts=True)
    counted = classes != IGNORED
    weights = np.where(counted, counts[counted].sum() / (max(counted.sum(), 1) * counts), 0)
    return weights[places].reshape(semantic.shape)


def _components(semantic):
    """Masks of the connected parts of each class above 0."""
    for k in np.unique(semantic):
        if k not in (0, IGNORED):
            count, parts = cv2.connectedComponents((semantic == k).astype(np.uint8), connectivity=8)
            for part in range(1, count):
                yield (parts == part).astype(np.uint8)


def _two_nearest(masks, size):
    """(H, W) distances to the border of the nearest and of the second nearest mask; infinite where there is none."""
    nearest, second = np.full(size, np.inf), np.full(size, np.inf)
    for mask in masks:
        inner = cv2.erode(mask, _CROSS)  # by default nothing is taken off at the picture's edge
        border = mask > inner
        if border.any():
            distance = cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            nearest, second = np.minimum(nearest, distance), np.minimum(second, np.maximum(nearest, distance))
    return nearest, second
