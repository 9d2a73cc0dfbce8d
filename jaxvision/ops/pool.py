"""Pooling by torch's rules, written as elementwise passes along one axis and then the other.

XLA's own max pooling has a gradient (select and scatter) that is slow on a CPU; these passes are several times quicker.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Pair = int | tuple[int, int]


def max_pool(x: Array, window: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False) -> Array:
    """The greatest value of each window of x (B, H, W, C); padding never wins.

    `stride` is the window by default. With `ceil_mode` a last window that is only partly on the map counts too, unless
    it would begin in the padding (torch's rule). Values that tie share the gradient, where torch gives it to the first.
    Raises ValueError, as the means do, for a map in which no window has a place.
    """
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    for axis, geometry in _axes(x, window, stride, padding, ceil_mode):
        x = _reduce(x, axis, *geometry, lowest, jnp.maximum)
    return x


def avg_pool(
    x: Array,
    window: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The mean of each window of x (B, H, W, C), by torch's rules as in `max_pool`.

    `count_include_pad` counts padded zeros in the mean; what `ceil_mode` reaches beyond the padding never counts.
    """
    for axis, (size, step, pad, out) in _axes(x, window, stride, padding, ceil_mode):
        extent = x.shape[axis]
        start = np.arange(out) * step - pad
        low, high = (-pad, extent + pad) if count_include_pad else (0, extent)
        count = np.minimum(start + size, high) - np.maximum(start, low)
        total = _reduce(x, axis, size, step, pad, out, 0, jnp.add)
        x = total / np.expand_dims(count, tuple(range(1, x.ndim - axis))).astype(x.dtype)
    return x


def adaptive_avg_pool(x: Array, size: Pair) -> Array:
    """Means of x (B, H, W, C) over `size` cells; cell i of n spans rows floor(i H / n) to ceil((i + 1) H / n), torch's rule.

    Cells overlap where H is no multiple of n, and repeat rows where H is smaller.
    """
    for axis, cells in zip((1, 2), np.broadcast_to(size, 2).tolist()):
        extent = x.shape[axis]
        if cells == extent:
            continue
        start, stop = np.arange(cells) * extent // cells, -(-np.arange(1, cells + 1) * extent // cells)
        rows = np.arange(extent)
        inside = (rows >= start[:, None]) & (rows < stop[:, None])
        weights = (inside / (stop - start)[:, None]).astype(np.float32)
        equation = "oh,bhwc->bowc" if axis == 1 else "ow,bhwc->bhoc"
        x = jnp.einsum(equation, weights, x, precision="highest").astype(x.dtype)
    return x


def _axes(x, window, stride, padding, ceil_mode):
    """Axis and (window, stride, padding, output size) of the height and the width of x."""
    stride = window if stride is None else stride
    for axis, size, step, pad in zip((1, 2), *(np.broadcast_to(v, 2).tolist() for v in (window, stride, padding))):
        extent = x.shape[axis]
        out = (extent + 2 * pad - size + (step - 1) * ceil_mode) // step + 1
        if ceil_mode and (out - 1) * step >= extent + pad:
            out -= 1
        if out < 1:
            raise ValueError(
                f"A side of {extent} cells has no place for a window of {size}: enlarge the images or pool less."
            )
        yield axis, (size, step, pad, out)


def _reduce(x: Array, axis: int, size: int, step: int, pad: int, out: int, fill: float, combine: Callable) -> Array:
    reach = (out - 1) * step + 1
    pads = [(0, 0, 0)] * x.ndim
    pads[axis] = (pad, reach - 1 + size - pad - x.shape[axis], 0)  # negative where the last rows are in no window
    x = lax.pad(x, jnp.array(fill, x.dtype), pads)
    result = lax.slice_in_dim(x, 0, reach, step, axis)
    for offset in range(1, size):
        result = combine(result, lax.slice_in_dim(x, offset, offset + reach, step, axis))
    return result
