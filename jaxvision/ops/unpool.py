"""Ways back from a pooled map (B, H, W, C) to a larger one: by repetition, by nails, and by the maxima's own places."""

import jax.numpy as jnp
import numpy as np
from jax import Array

Pair = int | tuple[int, int]


def nearest_unpool(x: Array, factor: Pair) -> Array:
    """Every value `factor` times along both axes. Its adjoint is the sum over each window."""
    rows, columns = np.broadcast_to(factor, 2).tolist()
    return x.repeat(rows, 1).repeat(columns, 2)


def bed_of_nails(x: Array, factor: Pair) -> Array:
    """Every value in the upper left corner of a window of `factor`, and zeros. Its adjoint is a strided slice."""
    rows, columns = np.broadcast_to(factor, 2).tolist()
    batch, height, width, channels = x.shape
    nails = jnp.zeros((batch, height, rows, width, columns, channels), x.dtype).at[:, :, 0, :, 0].set(x)
    return nails.reshape(batch, height * rows, width * columns, channels)


def max_pool_with_switches(x: Array, window: Pair) -> tuple[Array, Array]:
    """The maxima (B, H // h, W // w, C) of windows (h, w) that do not overlap, and where they stood.

    A switch is the number y * W + x of the pixel, int32, of an image and a channel each; of equal values the first, as
    torch has it, which takes the whole gradient too. What is left of H and W belongs to no window. One elementwise pass a
    pixel of the window: a gather would have a gradient that is slow on a CPU.
    """
    rows, columns = np.broadcast_to(window, 2).tolist()
    height, width = x.shape[1:3]
    down, right = height // rows, width // columns
    corners = jnp.arange(down)[:, None, None] * rows * width + jnp.arange(right)[:, None] * columns
    greatest = switches = None
    for row, column in np.ndindex(rows, columns):
        values = x[:, row : down * rows : rows, column : right * columns : columns]
        places = jnp.broadcast_to(corners + row * width + column, values.shape).astype(jnp.int32)
        if greatest is None:
            greatest, switches = values, places
            continue
        better = (values > greatest) | jnp.isnan(values)
        greatest, switches = jnp.where(better, values, greatest), jnp.where(better, places, switches)
    return greatest, switches


def max_unpool(x: Array, switches: Array, window: Pair, size: tuple[int, int]) -> Array:
    """Each value of x where its switch says, in a map of `size` that is 0 elsewhere: (B, *size, C).

    `window` and `size` are those that `max_pool_with_switches` had, so a pixel is written once at most: with windows that
    overlap several would write one, which torch leaves to chance. Elementwise, and so is the gradient.
    Raises ValueError where the sizes do not go together.
    """
    rows, columns = np.broadcast_to(window, 2).tolist()
    height, width = size
    if x.shape != switches.shape or x.shape[1:3] != (height // rows, width // columns):
        raise ValueError(
            f"A map of {height} x {width} has {height // rows} x {width // columns} windows of {rows} x {columns}; "
            f"got values {x.shape} and switches {switches.shape}."
        )
    pixels = jnp.arange(height * width, dtype=jnp.int32).reshape(height, width, 1)
    left = ((0, 0), (0, height % rows), (0, width % columns), (0, 0))
    values, places = (nearest_unpool(a, (rows, columns)) for a in (x, switches))
    return jnp.where(jnp.pad(places, left, constant_values=-1) == pixels, jnp.pad(values, left), 0)
