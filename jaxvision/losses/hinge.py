"""Hinge losses: a score that is right by a margin of 1 costs nothing.

Two forms of "the SVM loss" weigh several classes' scores against each other, the third is a binary one for each class. Each
takes scores (..., K) and returns the losses (...), float32.
"""

import jax
import jax.numpy as jnp
from jax import Array


def sum_of_margins(logits: Array, labels: Array) -> Array:
    """Each wrong class's margin violation, summed: sum over j != y of max(0, 1 + s_j - s_y).

    logits (..., K), labels y (...) int in 0..K-1. Weston & Watkins, "Support Vector Machines for Multi-Class Pattern
    Recognition", ESANN 1999; the loss of Stanford's CS231n. torch's MultiMarginLoss divides it by K.
    """
    # The label's own term is the margin itself, always 1.
    return jax.nn.relu(_violations(logits, labels)).sum(-1) - 1


def worst_margin(logits: Array, labels: Array) -> Array:
    """The greatest margin violation alone: max over j != y of max(0, 1 + s_j - s_y).

    logits (..., K), labels y (...) int in 0..K-1. Crammer & Singer, "On the Algorithmic Implementation of Multiclass
    Kernel-based Vector Machines", JMLR 2001.
    """
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jax.nn.relu(jnp.where(own, -jnp.inf, _violations(logits, labels)).max(-1))


def one_against_rest(logits: Array, targets: Array) -> Array:
    """A binary SVM a class: sum over k of max(0, 1 - s_k) where targets (..., K) hold, of max(0, 1 + s_k) elsewhere."""
    return jax.nn.relu(1 - jnp.where(targets, 1, -1) * logits.astype(jnp.float32)).sum(-1)


def _violations(logits: Array, labels: Array) -> Array:
    logits = logits.astype(jnp.float32)
    return 1 + logits - jnp.take_along_axis(logits, labels[..., None], -1)
