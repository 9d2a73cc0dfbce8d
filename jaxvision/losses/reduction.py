"""Sums over the elements that count."""

import jax.numpy as jnp
from jax import Array


def spread(valid: Array | None, shape: tuple[int, ...]) -> Array:
    """`valid`, which covers the leading axes of `shape` (None: everything counts), as bool of that shape."""
    if valid is None:
        return jnp.ones(shape, bool)
    return jnp.broadcast_to(valid.reshape(valid.shape + (1,) * (len(shape) - valid.ndim)), shape).astype(bool)


def shield(values: Array, valid: Array, harmless: float = 0.0) -> Array:
    """`values` as float32, `harmless` where they do not count, so that neither NaN nor its gradient gets into a sum."""
    return jnp.where(spread(valid, values.shape), values.astype(jnp.float32), harmless)


def total(losses: Array, valid: Array) -> tuple[Array, Array]:
    """Sum of the losses (...) that are `valid` (...), and their number, both float32 scalars."""
    return jnp.where(valid, losses, 0).sum(), valid.sum(dtype=jnp.float32)
