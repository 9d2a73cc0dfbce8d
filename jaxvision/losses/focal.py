"""Focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017)."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.losses.cross_entropy import binary_cross_entropy
from jaxvision.losses.reduction import shield, spread, total


def sigmoid_focal(
    logits: Array, targets: Array, valid: Array | None = None, alpha: float = 0.25, gamma: float = 2.0
) -> tuple[Array, Array]:
    """(sum, count) of alpha_t (1 - p_t)^gamma times the binary cross-entropy of logits (...) with targets (...).

    Targets are in 0..1. `valid` covers all axes or the leading ones; the count is that of the elements (detectors
    divide the sum by their number of positive anchors instead). A negative alpha leaves the classes unweighted.
    Raises ValueError for an alpha above 1 or a negative gamma.
    """
    if alpha > 1 or gamma < 0:
        raise ValueError(f"focal loss wants alpha <= 1 and gamma >= 0, got {alpha} and {gamma}.")
    valid = spread(valid, logits.shape)
    return total(focal_losses(shield(logits, valid), shield(targets, valid), alpha, gamma), valid)


def focal_losses(logits: Array, targets: Array, alpha: float, gamma: float) -> Array:
    """The loss of each element, float32."""
    wrong = jax.nn.sigmoid(logits) * (1 - targets) + jax.nn.sigmoid(-logits) * targets
    losses = binary_cross_entropy(logits, targets) * jnp.maximum(wrong, 1e-12) ** gamma  # no infinite slope at 0
    return losses * (alpha * targets + (1 - alpha) * (1 - targets)) if alpha >= 0 else losses
