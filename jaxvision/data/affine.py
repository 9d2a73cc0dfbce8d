"""Rotation, shift, zoom and shear in one: the picture is resampled once."""

import dataclasses

import numpy as np

from jaxvision.data.geometry import is_visible, select
from jaxvision.data.resample import resample


@dataclasses.dataclass(frozen=True)
class Affine:
    """Turns, slants, scales and shifts about the picture's middle; its size stays.

    rotation, shear: up to so many degrees either way, the second of the vertical lines. zoom: factors (low, high).
    shift: up to that share of the sides, either way. Each is drawn uniformly, as by torchvision's RandomAffine.

    What comes from beyond the picture is the mean colour, semantic 255. Boxes become those of the moved masks; without
    masks, and of proposals, those around their four moved corners, cut to the picture: for turned objects too large. What
    is left of an object without any pixel, or without masks with less than a pixel of width or height, is dropped. Joints
    outside become unlabelled.
    """

    rotation: float = 0.0
    shift: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0

    def __post_init__(self):
        limits = {"rotation": 180, "shift": 1, "shear": 89}
        for name, most in limits.items():
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"affine: {name} is {getattr(self, name)}, expected 0..{most}")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"affine: zoom is {self.zoom}, expected (low, high) with 0 < low <= high")

    def __call__(self, example, rng):
        height, width = example["image"].shape[:2]
        rotation, shear, *shift = rng.uniform(-1, 1, 4) * [self.rotation, self.shear, self.shift, self.shift]
        return move(example, matrix(rotation, shear, rng.uniform(*self.zoom)), np.multiply(shift, (width, height)))


def matrix(rotation: float, shear: float, zoom: float) -> np.ndarray:
    """(2, 2): what is scaled, then slanted, then turned counter-clockwise, as a map of columns (x, y), y pointing down."""
    angle = np.deg2rad(rotation)
    turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return turned @ np.array([[1, np.tan(np.deg2rad(shear))], [0, 1]]) * zoom


def move(example, matrix, shift):
    """A new example in which what was at p is at matrix (p - middle) + middle + shift, in pixels, x y."""
    size = np.array(example["image"].shape[1::-1])
    middle = size / 2

    def moved(points):
        return (points - middle) @ matrix.T + middle + shift

    grid = np.stack(np.meshgrid(*(np.arange(side) + 0.5 for side in size)), axis=-1)
    x, y = np.moveaxis((grid - middle - shift) @ np.linalg.inv(matrix).T + middle - 0.5, -1, 0)
    new = resample(example, x, y)
    if "proposals" in example:
        found = np.clip(_around(example["proposals"], moved), 0, np.tile(size, 2))
        new["proposals"] = found[is_visible(found)].astype(np.float32)
    if "keypoints" in example:
        places, seen = moved(example["keypoints"][..., :2]), example["keypoints"][..., 2:]
        inside = ((places >= 0) & (places <= size)).all(-1, keepdims=True) & (seen > 0)
        new["keypoints"] = (np.concatenate([places, seen], -1) * inside).astype(np.float32)
    if "masks" in example:
        return select(new, new["masks"].any((1, 2)))
    if "boxes" in example:
        whole = _around(example["boxes"], moved)
        boxes = np.clip(whole, 0, np.tile(size, 2))
        new["boxes"] = boxes.astype(np.float32)
        if "area" in example:
            share = np.prod(boxes[:, 2:] - boxes[:, :2], 1) / np.prod(whole[:, 2:] - whole[:, :2], 1)
            new["area"] = (example["area"] * abs(np.linalg.det(matrix)) * share).astype(np.float32)
        return select(new, is_visible(boxes))
    return new


def _around(boxes, moved):
    """(N, 4): the boxes around the moved corners of boxes (N, 4)."""
    corners = moved(boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2).astype(np.float64))
    return np.concatenate([corners.min(1), corners.max(1)], 1)
