"""Losses that measure the overlap of whole regions instead of adding up pixels.

Each takes logits (B, ..., K) and labels (B, ...) int and returns (sum, count), float32 scalars, over the images and those
classes that are in an image's truth. Labels equal to `ignore` or outside 0..K-1 count nowhere, nor what is not `valid`,
which covers all axes of the labels or the leading ones.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.losses.reduction import shield, spread, total


def dice(
    logits: Array,
    labels: Array,
    valid: Array | None = None,
    ignore: int | None = None,
    squared: bool = False,
    smooth: float = 0.0,
) -> tuple[Array, Array]:
    """1 - (2 sum p t + smooth) / (sum p + sum t + smooth), p the softmax and t the truth of a class.

    Milletari et al., "V-Net", 3DV 2016, whose denominator has the squares of p: `squared`.
    """
    probabilities, truth = _regions(logits, labels, valid, ignore)
    size = (probabilities**2 if squared else probabilities).sum(1) + truth.sum(1)
    present = truth.any(1)
    overlap = (2 * (probabilities * truth).sum(1) + smooth) / jnp.where(present, size + smooth, 1)
    return total(1 - overlap, present)


def lovasz_softmax(
    logits: Array, labels: Array, valid: Array | None = None, ignore: int | None = None
) -> tuple[Array, Array]:
    """The Lovasz extension of 1 - IoU, which it equals where every probability is 0 or 1.

    Berman, Triki & Blaschko, "The Lovasz-Softmax loss", CVPR 2018: errors |t - p| in falling order, each times what its
    pixel, once wrong, adds to the Jaccard loss of those before it.
    """
    probabilities, truth = _regions(logits, labels, valid, ignore)
    errors = abs(truth - probabilities)
    order = jnp.argsort(-jax.lax.stop_gradient(errors), axis=1)
    errors, truth = (jnp.take_along_axis(a, order, 1) for a in (errors, truth))
    size = truth.sum(1, keepdims=True)
    union = size + (1 - truth).cumsum(1)
    jaccard = 1 - (size - truth.cumsum(1)) / jnp.maximum(union, 1)
    steps = jnp.diff(jaccard, axis=1, prepend=0)
    return total((errors * steps).sum(1), size[:, 0] > 0)


def _regions(logits, labels, valid, ignore):
    """Probabilities and truth (B, P, K), both 0 at pixels that do not count."""
    classes = logits.shape[-1]
    valid = spread(valid, labels.shape) & (labels >= 0) & (labels < classes)
    if ignore is not None:
        valid &= labels != ignore
    probabilities = jnp.where(valid[..., None], jax.nn.softmax(shield(logits, valid)), 0)
    truth = jnp.where(valid[..., None], labels[..., None] == jnp.arange(classes), 0).astype(jnp.float32)
    return (a.reshape(len(labels), -1, classes) for a in (probabilities, truth))
