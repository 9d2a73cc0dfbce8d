"""The cross-entropy family. Each function returns (sum, count), float32 scalars; the caller divides."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.losses.reduction import shield, spread, total


def softmax_losses(
    logits: Array, labels: Array, valid: Array | None = None, ignore: int | None = None
) -> tuple[Array, Array]:
    """(-log softmax(logits)[label] of each row, float32, and whether it counts), both of labels' shape.

    logits (..., K), labels (...) int. Rows that are not `valid` (...), labels equal to `ignore` and labels outside 0..K-1
    (such as 255 in a segmentation) do not count; that a label is wrong rather than ignored is for the host to find.
    """
    valid = spread(valid, labels.shape) & (labels >= 0) & (labels < logits.shape[-1])
    if ignore is not None:
        valid &= labels != ignore
    labels = jnp.where(valid, labels, 0)
    log_probabilities = jax.nn.log_softmax(shield(logits, valid))
    return -jnp.take_along_axis(log_probabilities, labels[..., None], -1)[..., 0], valid


def softmax_cross_entropy(
    logits: Array,
    labels: Array,
    valid: Array | None = None,
    class_weights: Array | None = None,
    ignore: int | None = None,
) -> tuple[Array, Array]:
    """The sum of `softmax_losses` over the rows that count, and their number.

    With `class_weights` (K,) each row counts as its class's weight in the sum and in the count, as in torch.
    """
    losses, valid = softmax_losses(logits, labels, valid, ignore)
    if class_weights is None:
        return total(losses, valid)
    weights = weights_of(labels, valid, class_weights)
    return (losses * weights).sum(), weights.sum()


def weights_of(labels: Array, valid: Array, class_weights: Array) -> Array:
    """The weight (...) of each label's class, float32; 0 where it is not valid."""
    return jnp.where(valid, jnp.asarray(class_weights, jnp.float32)[jnp.where(valid, labels, 0)], 0)


def sigmoid_cross_entropy(logits: Array, targets: Array, valid: Array | None = None) -> tuple[Array, Array]:
    """Binary cross-entropy of logits (...) with targets (...) in 0..1; `valid` covers all or the leading axes.

    The count is that of the elements, so that sum / count is torch's mean.
    """
    valid = spread(valid, logits.shape)
    return total(binary_cross_entropy(shield(logits, valid), shield(targets, valid)), valid)


def binary_cross_entropy(logits: Array, targets: Array) -> Array:
    """-t log p - (1 - t) log(1 - p), p = sigmoid(logits), element by element, finite for every finite logit."""
    return jnp.maximum(logits, 0) - logits * targets + jnp.log1p(jnp.exp(-abs(logits)))
