"""Spatial pyramid pooling of windows on a feature map (He et al., "Spatial Pyramid Pooling in Deep Convolutional Networks",
ECCV 2014)."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jaxvision.ops.roi_pool import roi_pool


def map_windows(boxes: Array, stride: float, start: float, size: tuple[int, int]) -> Array:
    """First and last cells (R, 4) float32, x1 y1 x2 y2, both inclusive, of boxes (R, 4) on a map of `size` (height, width).

    Cell i has its centre at stride i + start of the picture. The paper's rule, where start is 0: a window holds the cells
    whose centres lie strictly inside the box, floor(x1 / stride) + 1 to ceil(x2 / stride) - 1. One that would hold none is
    the cell nearest to the box's middle; windows are cut to the map.
    """
    low, high = (boxes[:, :2] - start) / stride, (boxes[:, 2:] - start) / stride
    first, last = jnp.floor(low) + 1, jnp.ceil(high) - 1
    nearest = jnp.floor((low + high) / 2 + 0.5)
    first, last = (jnp.where(last < first, nearest, cell) for cell in (first, last))
    return jnp.clip(jnp.concatenate([first, last], 1), 0, jnp.array([size[1] - 1, size[0] - 1] * 2, jnp.float32))


def pyramid_pool(features: Array, windows: Array, levels: Sequence[int] = (1, 2, 3, 6)) -> Array:
    """The greatest features (R, bins, C) of each bin of windows (R, 4), cells as `map_windows` has them, of a map (H, W, C).

    A level n has n x n bins, row by row: of a cells, bin i takes floor(i a / n) to ceil((i + 1) a / n), so bins overlap where
    n does not divide a. bins: the sum of n², 50 by default, 21 for (4, 2, 1).
    """
    pooled = [roi_pool(features, windows, n, 1.0).reshape(len(windows), n * n, -1) for n in levels]
    return jnp.concatenate(pooled, 1)
