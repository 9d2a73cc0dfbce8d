"""Bilinear interpolation one axis at a time, as matrices: what RoIAlign, mask resampling and resizing share."""

import jax.numpy as jnp
import numpy as np
from jax import Array


def linear_weights(positions, extent: int):
    """Weights (..., extent) that interpolate a line of `extent` samples at `positions` (...), sample i standing at i.

    Beyond the ends the end sample holds. Numpy in, numpy out.
    """
    positions = positions.clip(0, extent - 1)[..., None]
    return (1 - abs(positions - np.arange(extent, dtype=np.float32))).clip(0)


def cubic(distance, a: float):
    """The cubic convolution kernel (Keys, 1981), 0 from a distance of 2 samples on; torch has a = -0.75.

    Numpy in, numpy out.
    """
    near, far = abs(distance).clip(0, 1), abs(distance).clip(1, 2)
    return ((a + 2) * near - (a + 3)) * near * near + 1 + ((a * far - 5 * a) * far + 8 * a) * far - 4 * a


def cell_samples(start: Array, length: Array, cells: int, ratio: int, bound: int) -> tuple[Array, Array]:
    """Points to sample in each of `cells` equal cells of the spans [start, start + length], (R,) each.

    Returns positions (R, cells, S) and weights (R, 1, S), which add up to 1 in a cell. `ratio` > 0 points stand evenly
    in a cell, S = ratio; with ratio <= 0 they are ceil(length / cells), at most `bound`, S = bound, the others at
    weight 0: torchvision's adaptive rule, which has no points at all in a span of no length.
    """
    count = jnp.full_like(length, ratio) if ratio > 0 else jnp.clip(jnp.ceil(length / cells), 0, bound)
    point = jnp.arange(ratio if ratio > 0 else bound)
    number = jnp.maximum(count, 1)[:, None, None]
    cell = (length / cells)[:, None, None]
    positions = start[:, None, None] + cell * jnp.arange(cells)[:, None] + (point + 0.5) * (cell / number)
    return positions, (point < count[:, None, None]) / number


def sampling_matrix(positions: Array, weights: Array, extent: int, border: float) -> Array:
    """Matrix (R, cells, extent) that gives each cell the weighted mean of its samples (R, cells, S) on a line.

    A sample more than `border` beyond the first or last of the `extent` samples is 0; nearer ones take the end's value.
    """
    inside = (positions >= -border) & (positions <= extent - 1 + border)
    return (linear_weights(positions, extent) * jnp.where(inside, weights, 0)[..., None]).sum(-2)
