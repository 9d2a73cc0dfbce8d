"""RoI warping: the crop of multi-task network cascades (Dai, He & Sun, CVPR 2016), between RoI pooling and RoIAlign."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxvision.ops.interpolation import sampling_matrix
from jaxvision.ops.roi import separable
from jaxvision.ops.roi_pool import quotient, round_half_away


def roi_warp(features: Array, rois: Array, size: int | tuple[int, int], scale: float, points: int = 2) -> Array:
    """Features (R, h, w, C) of the RoIs (R, 4) on a map (H, W, C), `size` = (h, w) cells each.

    The rule is that of the authors' code: corners times `scale` are rounded to cells of the map, halves away from zero;
    the RoI is read bilinearly at h points x w points, evenly from its first corner on, a feature standing at its cell's
    whole number; then each cell is the greatest of its points². A point more than half a cell beyond the map is 0.

    Differentiable in the RoIs: rounding passes their gradient on as if it were not there.
    """
    rows, columns = (
        _matrix(rois, axis, n * points, extent, scale)
        for axis, n, extent in zip((0, 1), np.broadcast_to(size, 2).tolist(), features.shape)
    )
    grid = separable(features.astype(jnp.float32), rows, columns)
    count, height, width, channels = grid.shape
    cells = grid.reshape(count, height // points, points, width // points, points, channels)
    return cells.max((2, 4)).astype(features.dtype)


def _matrix(rois, axis, count, extent, scale):
    """(R, count, extent): how the points of the RoIs along y (axis 0) or x (axis 1) are mixed of the map's cells."""
    low, high = (_round(rois[:, corner] * scale)[:, None] for corner in (1 - axis, 3 - axis))
    step = quotient(jnp.maximum(high - low, 0), count)
    positions = low + jnp.arange(count) * step
    return sampling_matrix(positions[..., None], jnp.ones_like(positions)[..., None], extent, border=0.5)


def _round(x):
    return lax.stop_gradient(round_half_away(x)) + (x - lax.stop_gradient(x))
