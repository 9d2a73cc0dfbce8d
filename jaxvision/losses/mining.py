"""Which negatives a detector learns from."""

import jax.numpy as jnp
from jax import Array, lax


def hard_negatives(losses: Array, positive: Array, ratio: float = 3.0, least: int = 0) -> Array:
    """The negatives of greatest loss, `ratio` for each positive, as a mask (..., A); the first of equals.

    losses: (..., A), of each anchor of an image. positive: (..., A) bool. least: so many negatives even of an image without
    positives, from which SSD (Liu et al., ECCV 2016, section 2.2) learns nothing. No gradient passes.
    """
    losses = jnp.where(positive, -jnp.inf, lax.stop_gradient(losses))
    rank = jnp.argsort(jnp.argsort(losses, descending=True))
    count = jnp.maximum(ratio * positive.sum(-1, keepdims=True), least)
    return (rank < count) & ~positive
