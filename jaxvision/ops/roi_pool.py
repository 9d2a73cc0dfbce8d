"""RoI max pooling by whole cells of the map, as SPP-net and Fast R-CNN have it (Girshick, ICCV 2015)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

LONGEST = 4096  # cells of a map that a RoI spans


def roi_pool(features: Array, rois: Array, size: int | tuple[int, int], scale: float) -> Array:
    """The greatest features (R, h, w, C) of each cell of the RoIs (R, 4) on a map (H, W, C), `size` = (h, w) cells each.

    The rule is torchvision's: corners times `scale` are rounded to cells of the map, halves away from zero, and the right
    and lower ones belong to the RoI, which so has at least one. Its cells begin at floor and end at ceil, and may
    overlap by one; one that lies beyond the map is 0.

    Each cell's gradient goes to its one greatest feature, of equals the first row by row, and adds up over RoIs; the RoIs
    have none. A maximum over any rectangle is that of four windows of powers of two, so memory is log2(H) log2(W) times
    the map's.
    """
    return _pool(jnp.asarray(features), jnp.asarray(rois), tuple(np.broadcast_to(size, 2).tolist()), scale)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _pool(features, rois, cells, scale):
    found, filled = _greatest(features, rois, cells, scale)
    return jnp.where(filled, found, 0)


def _forward(features, rois, cells, scale):
    return _pool(features, rois, cells, scale), (features, rois)


def _backward(cells, scale, residuals, gradient):
    """The greatest of ranks, which are never equal, says which feature won."""
    features, rois = residuals
    flat = features.reshape(-1, features.shape[-1])
    rank = jnp.argsort(jnp.argsort(-flat, axis=0), axis=0)  # 0 is the greatest; sorting is stable: of equals the first
    found, filled = _greatest(-rank.reshape(features.shape), rois, cells, scale)
    gradient = jnp.where(filled, gradient, 0).astype(jnp.float32)
    by_rank = jnp.zeros(flat.shape, jnp.float32).at[-found, jnp.arange(flat.shape[1])].add(gradient)
    by_place = jnp.take_along_axis(by_rank, rank, 0).reshape(features.shape)
    return by_place.astype(features.dtype), jnp.zeros_like(rois)


_pool.defvjp(_forward, _backward)


def _greatest(features, rois, cells, scale):
    """(R, h, w, C), and whether each cell (R, h, w, 1) lies on the map; what those have that do not means nothing."""
    height, width = features.shape[:2]
    windows, levels = _window_maxima(features)
    spans = [_spans(rois, axis, n, extent, scale) for axis, n, extent in zip((0, 1), cells, (height, width))]
    y_level, x_level = (
        _floor_log2(extent)[jnp.maximum(stop - start, 1)] for (start, stop), extent in zip(spans, (height, width))
    )
    found = None
    for y in _first_and_last(*spans[0], y_level, height):
        for x in _first_and_last(*spans[1], x_level, width):
            level = y_level[:, :, None] * levels + x_level[:, None]
            values = windows[(level * height + y[:, :, None]) * width + x[:, None]]
            found = values if found is None else jnp.maximum(found, values)
    y_filled, x_filled = (stop > start for start, stop in spans)
    return found, (y_filled[:, :, None] & x_filled[:, None])[..., None]


def _spans(rois, axis, cells, extent, scale):
    """First row of each cell (R, cells) and the one behind its last, along y (axis 0) or x (axis 1)."""
    low, high = (round_half_away(rois[:, corner] * scale) for corner in (1 - axis, 3 - axis))
    cell = quotient(jnp.maximum(high - low + 1, 1), cells)[:, None]
    number = jnp.arange(cells)
    bounds = jnp.floor(number * cell) + low[:, None], jnp.ceil((number + 1) * cell) + low[:, None]
    return tuple(jnp.clip(bound, 0, extent).astype(jnp.int32) for bound in bounds)


def quotient(number: Array, divisor: int) -> Array:
    """number / divisor of whole numbers >= 0, rounded as torchvision's code has it.

    XLA divides by a divisor that it knows as a product by the reciprocal, an optimization barrier notwithstanding, and where
    a bound so is rounded otherwise a cell has a row more. Numbers up to `LONGEST` are therefore looked up.
    """
    exact = jnp.array(np.arange(LONGEST + 1, dtype=np.float32) / np.float32(divisor))
    looked_up = exact[jnp.clip(number, 0, LONGEST).astype(jnp.int32)]
    rounded = jnp.where(number <= LONGEST, looked_up, number / divisor)
    return (
        lax.stop_gradient(rounded) + (number - lax.stop_gradient(number)) / divisor
    )  # the second is 0, with a gradient


def round_half_away(x: Array) -> Array:
    return jnp.sign(x) * jnp.floor(abs(x) + 0.5)


def _floor_log2(extent):
    return jnp.array([0, *(int(n).bit_length() - 1 for n in range(1, extent + 1))])


def _first_and_last(start, stop, level, extent):
    """Where the two windows of 2^level rows begin that together cover start .. stop."""
    return (jnp.clip(row, 0, extent - 1) for row in (start, stop - 2**level))


def _window_maxima(features):
    """(rows, C): the maxima of windows of 2^i x 2^j cells that begin at each cell, for all i and then j; and how many j."""
    height, width, channels = features.shape
    table = []
    for i in range(height.bit_length()):
        row = features
        for j in range(width.bit_length()):
            table.append(row)
            row = jnp.maximum(
                row, jnp.roll(row, -(2**j), 1)
            )  # what is rolled in from the other side is never asked for
        features = jnp.maximum(features, jnp.roll(features, -(2**i), 0))
    return jnp.stack(table).reshape(-1, channels), width.bit_length()
