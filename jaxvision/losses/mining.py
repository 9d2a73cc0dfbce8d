"""Which negatives a detector learns from, and which pixels a segmenter."""

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


def hard_pixels(losses: Array, valid: Array, fraction: float) -> Array:
    """That fraction of each image's valid pixels whose loss is greatest, rounded up, as a mask (B, ...); the first of equals.

    losses, valid: (B, ...). Wu, Shen & van den Hengel, "Bridging Category-level and Instance-level Semantic Image
    Segmentation", 2016, who keep a fixed number. No gradient passes. Raises ValueError for a fraction not in 0..1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction of pixels to learn from is above 0 and at most 1, got {fraction}.")
    flat = jnp.where(valid, lax.stop_gradient(losses), -jnp.inf).reshape(len(losses), -1)
    rank = jnp.argsort(jnp.argsort(flat, descending=True)).reshape(losses.shape)
    axes = tuple(range(1, losses.ndim))
    return (rank < jnp.ceil(fraction * valid.sum(axes, keepdims=True))) & valid
