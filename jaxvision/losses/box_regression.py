"""Losses of predicted boxes or box offsets (..., 4) against targets (..., 4).

Each returns (sum, count), float32 scalars: the sum over the four coordinates of every row that is `valid` (...), and
the number of those rows.
"""

import jax.numpy as jnp
from jax import Array

from jaxvision.losses.reduction import shield, spread, total
from jaxvision.ops.boxes import paired_giou


def smooth_l1(
    predictions: Array, targets: Array, valid: Array | None = None, beta: float = 1 / 9
) -> tuple[Array, Array]:
    """Error² / (2 beta) up to an error of `beta`, then error - beta / 2 (Fast R-CNN's loss has beta 1); beta > 0."""
    valid, error = _errors(predictions, targets, valid)
    losses = jnp.where(error < beta, error**2 / (2 * beta), error - beta / 2)
    return total(losses.sum(-1), valid)


def l1(predictions: Array, targets: Array, valid: Array | None = None) -> tuple[Array, Array]:
    """The absolute error."""
    valid, error = _errors(predictions, targets, valid)
    return total(error.sum(-1), valid)


def l2(predictions: Array, targets: Array, valid: Array | None = None) -> tuple[Array, Array]:
    """The squared error."""
    valid, error = _errors(predictions, targets, valid)
    return total((error**2).sum(-1), valid)


def giou(predictions: Array, targets: Array, valid: Array | None = None) -> tuple[Array, Array]:
    """1 - generalised IoU of boxes `x1 y1 x2 y2` (Rezatofighi et al., CVPR 2019), one value in 0..2 a row."""
    valid = spread(valid, targets.shape[:-1])
    return total(1 - paired_giou(shield(predictions, valid), shield(targets, valid)), valid)


def _errors(predictions, targets, valid):
    valid = spread(valid, targets.shape[:-1])
    return valid, abs(shield(predictions, valid) - shield(targets, valid))
