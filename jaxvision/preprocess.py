"""How an image is resized before a network sees it. Numpy, on the host.

A rule is a plain dict, and belongs to the weights:
  {"min_size": 800, "max_size": 1333}: the shorter side becomes 800, or less where the longer would exceed 1333;
    bilinear without antialiasing, and the canvas a multiple of 32 (torchvision's detectors).
  {"stretch": (300, 300)}: to that height and width, its shape not kept (SSD).
  {"resize": 256, "crop": 224}: the shorter side to 256, antialiased, then the middle of 224 x 224 (its classifiers).
  {"resize": 520}: the same without a crop (its segmenters).
  {}: nothing; the canvas is a multiple of 32.
"""

import math
from collections.abc import Mapping

import cv2
import numpy as np

from jaxvision.ops.resize import weight_matrix

RULES = ({"min_size", "max_size"}, {"stretch"}, {"resize", "crop"}, {"resize"}, set())


def check(rule: Mapping) -> dict:
    """The rule as a dict. Raises ValueError for one that is not known, or of sizes that are not positive."""
    if set(rule) not in RULES:
        raise ValueError(f"resize is {dict(rule)!r}; known are the keys {', '.join(str(sorted(r)) for r in RULES)}.")
    if any(np.min(size) < 1 for size in rule.values()):
        raise ValueError(f"resize is {dict(rule)!r}: sizes are pixels, at least 1.")
    return dict(rule)


def multiple(rule: Mapping) -> int:
    """Of which the sides of a canvas are, so that a network's maps cover it evenly."""
    return 32 if "min_size" in rule or not rule else 1


def scaled(rule: Mapping, factor: float) -> dict:
    """The rule that gives images `factor` as large. Raises ValueError where the size of the input is fixed."""
    if {"stretch", "crop"} & set(rule):
        raise ValueError(f"A network of the rule {dict(rule)!r} sees images of one size; leave other scales out.")
    return {name: max(1, round(size * factor)) for name, size in rule.items()}


def new_size(size: tuple[int, int], rule: Mapping) -> tuple[int, int]:
    """(height, width) of an image of that size once it is resized, before any crop; computed in float64."""
    height, width = size
    if "stretch" in rule:
        return tuple(rule["stretch"])
    if "min_size" in rule:
        scale = min(rule["min_size"] / min(size), rule["max_size"] / max(size))
        return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))
    if "resize" in rule:
        side, longer = rule["resize"], int(rule["resize"] * max(size) / min(size))
        return (side, longer) if height <= width else (longer, side)
    return height, width


def resized(image: np.ndarray, size: tuple[int, int], rule: Mapping) -> np.ndarray:
    """image (H,W,3), uint8 or float in 0..1, at `size` and cut as the rule says.

    For a detector float32, also where nothing was to be done; otherwise uint8 stays uint8, rounded, as torchvision's
    presets keep it.
    """
    image = image if image.dtype == np.uint8 else image.astype(np.float32)
    if not {"resize", "crop"} & set(rule):
        if rule and image.dtype == np.uint8:
            image = image.astype(np.float32) / np.float32(255)
        return _bilinear(image, size)
    if size != image.shape[:2]:
        image = _antialiased(image, size)
    if "crop" not in rule:
        return image
    top, left = (round((side - rule["crop"]) / 2) for side in image.shape[:2])
    return image[top : top + rule["crop"], left : left + rule["crop"]]


def _antialiased(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """First along rows, then along columns; 8 bits are rounded after each, as torch and Pillow do."""
    for axis in (1, 0):
        matrix = weight_matrix(image.shape[axis], size[axis], antialias=True).astype(np.float32)
        values = np.moveaxis(np.tensordot(matrix, image.astype(np.float32), (1, axis)), 0, axis)
        image = np.floor(values + 0.5).clip(0, 255).astype(np.uint8) if image.dtype == np.uint8 else values
    return image


def _bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if size == image.shape[:2]:
        return image
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
