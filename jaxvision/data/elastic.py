"""Elastic deformation (Ronneberger et al., U-Net, MICCAI 2015, section 3.1): a smooth random field moves the pixels."""

import dataclasses

import cv2
import numpy as np

from jaxvision.data.geometry import select
from jaxvision.data.resample import resample


@dataclasses.dataclass(frozen=True)
class Elastic:
    """Displacements at the centres of `grid` x `grid` equal tiles, Gaussian of `sigma` pixels, between them bicubic.

    A pixel of the new picture shows what lies at its own place plus its displacement: the image bilinearly, masks and
    semantic map by the nearest pixel. From beyond the picture come the mean colour, semantic 255 and no object. Boxes
    become those of the bent masks, areas change with them, and an object of which nothing is left is dropped; joints go
    where their pixel went, to half a pixel or so, or become unlabelled. The field folds where tiles are not several
    times sigma wide: 10 is for the paper's 512 pixels.
    The paper does not say where its nodes lie, nor what comes from beyond. Raises ValueError for boxes without masks and
    for proposals, which cannot be bent.
    """

    sigma: float = 10.0
    grid: int = 3

    def __post_init__(self):
        if self.sigma < 0 or self.grid < 1:
            raise ValueError(f"elastic: expected sigma >= 0 and grid >= 1, got {self.sigma} and {self.grid}")

    def __call__(self, example, rng):
        if "proposals" in example or ("boxes" in example and "masks" not in example):
            raise ValueError("elastic: boxes are bent by their masks; this source has boxes without, leave it out")
        height, width = example["image"].shape[:2]
        nodes = rng.normal(0, self.sigma, (self.grid, self.grid, 2)).astype(np.float32)
        field = cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, 2)
        return bend(example, field)


def bend(example, field):
    """A new example whose pixel (y, x) shows what was at (x, y) + field[y, x], field (H, W, 2) in pixels."""
    height, width = field.shape[:2]
    x = field[..., 0] + np.arange(width, dtype=np.float32)
    y = field[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    new = resample(example, x, y)
    if "boxes" not in example:
        return new
    if "keypoints" in example:
        new["keypoints"] = _moved(example["keypoints"], x + 0.5, y + 0.5)
    return select(new, new["masks"].any((1, 2)))


def _moved(keypoints, x, y):
    """Joints where the pixel lies that shows their place; x, y (H, W) are the places that pixels show."""
    moved = np.zeros_like(keypoints)
    for index in zip(*np.nonzero(keypoints[..., 2])):
        joint = keypoints[index]
        row, column = np.unravel_index(np.argmin((x - joint[0]) ** 2 + (y - joint[1]) ** 2), x.shape)
        place = (column + 0.5, row + 0.5) + joint[:2] - (x[row, column], y[row, column])
        if (place >= 0).all() and (place <= x.shape[::-1]).all():  # else it left the picture
            moved[index] = [*place, joint[2]]
    return moved
