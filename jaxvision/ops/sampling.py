"""A fixed number of training samples from positives and negatives, in a static shape."""

import jax.numpy as jnp
from jax import Array, lax


def sample(
    positive: Array, negative: Array, priorities: Array, count: int, fraction: float
) -> tuple[Array, Array, Array]:
    """Indices, valid and is_positive, each (min(count, A),): positives first, then negatives, then rows not valid.

    Of the disjoint sets `positive` and `negative`, (A,) bool, the members of greatest `priorities` (A,), finite, are
    taken: int(count * fraction) positives or as many as there are, and negatives up to `count`. Uniform priorities
    give torchvision's random sampler, losses as priorities hard mining. The index of a row not valid is 0.
    """
    rows = min(count, positive.shape[0])
    quota = min(int(count * fraction), rows)
    positives = jnp.minimum(quota, positive.sum())
    total = positives + jnp.minimum(count - positives, negative.sum())
    best = [
        lax.top_k(jnp.where(eligible, priorities, -jnp.inf), k)[1]
        for eligible, k in ((positive, quota), (negative, rows))
    ]
    row = jnp.arange(rows)
    is_positive, valid = row < positives, row < total
    chosen = jnp.concatenate(best)[jnp.where(is_positive, row, quota + row - positives)]
    return jnp.where(valid, chosen, 0).astype(jnp.int32), valid, is_positive
