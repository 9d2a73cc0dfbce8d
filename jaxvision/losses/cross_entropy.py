"""The cross-entropy family. Each function returns (sum, count), float32 scalars; the caller divides."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.losses.reduction import shield, spread, total


def softmax_cross_entropy(
    logits: Array,
    labels: Array,
    valid: Array | None = None,
    class_weights: Array | None = None,
    ignore: int | None = None,
) -> tuple[Array, Array]:
    """-log softmax(logits)[label], logits (..., K) and labels (...) int, over the rows that are `valid` (...).

    Labels equal to `ignore` and labels outside 0..K-1 (such as 255 in a segmentation) count nowhere; that a label is
    wrong rather than ignored is for the host to find. With `class_weights` (K,) each row counts as its class's weight
    in the sum and in the count, as in torch.
    """
    classes = logits.shape[-1]
    valid = spread(valid, labels.shape) & (labels >= 0) & (labels < classes)
    if ignore is not None:
        valid &= labels != ignore
    labels = jnp.where(valid, labels, 0)
    log_probabilities = jax.nn.log_softmax(shield(logits, valid))
    losses = -jnp.take_along_axis(log_probabilities, labels[..., None], -1)[..., 0]
    if class_weights is None:
        return total(losses, valid)
    weights = jnp.where(valid, jnp.asarray(class_weights, jnp.float32)[labels], 0)
    return (losses * weights).sum(), weights.sum()


def sigmoid_cross_entropy(logits: Array, targets: Array, valid: Array | None = None) -> tuple[Array, Array]:
    """Binary cross-entropy of logits (...) with targets (...) in 0..1; `valid` covers all or the leading axes.

    The count is that of the elements, so that sum / count is torch's mean.
    """
    valid = spread(valid, logits.shape)
    return total(binary_cross_entropy(shield(logits, valid), shield(targets, valid)), valid)


def binary_cross_entropy(logits: Array, targets: Array) -> Array:
    """-t log p - (1 - t) log(1 - p), p = sigmoid(logits), element by element, finite for every finite logit."""
    return jnp.maximum(logits, 0) - logits * targets + jnp.log1p(jnp.exp(-abs(logits)))
