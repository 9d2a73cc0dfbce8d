"""Regions of a picture brought to one size, as R-CNN sees them (Girshick et al., CVPR 2014, appendix A)."""

import jax.numpy as jnp
from jax import Array

from jaxvision.ops.roi import roi_align


def warp(image: Array, boxes: Array, side: int, context: int = 0) -> Array:
    """What lies in boxes (R, 4), x1 y1 x2 y2 in pixels of image (H, W, C), stretched to (R, side, side, C).

    `context`: of the side pixels, so many on each edge show what surrounds the box; they are pixels of the result, so that
    the box itself fills side - 2 context. Beyond the image is 0, the mean colour of a normalised picture. Bilinear, without
    antialiasing. Departure: boxes are taken as they are, where the authors round them to whole pixels of the image.
    """
    margin = (boxes[:, 2:] - boxes[:, :2]) * (context / (side - 2 * context))
    boxes = jnp.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], 1)
    image = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))  # beyond which RoIAlign would repeat the last pixel once
    return roi_align(image, boxes + 1, side, 1.0, sampling_ratio=1)
