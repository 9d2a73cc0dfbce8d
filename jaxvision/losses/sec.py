"""The three losses of "Seed, Expand and Constrain" (Kolesnikov & Lampert, ECCV 2016), by which a segmenter learns from seeds.

Each takes logits (B, h, w, K), class 0 the background, on the map where a network scores its cells (the paper: 41 x 41), and
returns (sum, count), float32 scalars, over the images that count, which are those that are `real` (B,). covered (B, h, w): the
cells that lie on the picture; None: all.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.losses.cross_entropy import softmax_losses
from jaxvision.losses.reduction import shield, spread, total

FLOOR = 1e-4  # added to every probability before the logarithm of a score or of 1 - a score is taken


def seed(logits: Array, seeds: Array, real: Array | None = None, ignore: int = 255) -> tuple[Array, Array]:
    """-log p of the seed's class, the mean over an image's seeds; images without any do not count.

    seeds (B, h, w) int: the class of a cell, `ignore` where nothing is known.
    """
    losses, valid = softmax_losses(logits, seeds, real, ignore)
    number = valid.sum((1, 2))
    each = jnp.where(valid, losses, 0).sum((1, 2)) / jnp.maximum(number, 1)
    return total(each, number > 0)


def rank_pool(scores: Array, decay: float, covered: Array | None = None) -> Array:
    """Global weighted rank pooling: scores (B, N) in falling order, the j-th (from 0) weighted by decay^j; (B,).

    decay 1 is the mean, 0 the maximum. covered (B, N): which count; of none the result is 0.
    """
    covered = spread(covered, scores.shape)
    falling = -jnp.sort(jnp.where(covered, -scores, jnp.inf), axis=1)
    ranks = np.arange(scores.shape[1])
    weights = jnp.where(ranks < covered.sum(1, keepdims=True), np.power(float(decay), ranks).astype(np.float32), 0)
    return (weights * jnp.where(weights > 0, falling, 0)).sum(1) / jnp.maximum(weights.sum(1), 1e-30)


def expand(
    logits: Array,
    present: Array,
    real: Array | None = None,
    covered: Array | None = None,
    foreground: float = 0.996,
    background: float = 0.999,
    absent: float = 0.0,
) -> tuple[Array, Array]:
    """-log of the pooled score of the classes that the image has, -log(1 - it) of those it has not, and -log of the background's.

    present (B, K) bool: the image's classes; of the background's nothing is asked, each image has it. foreground, background,
    absent: the decays of `rank_pool`. The paper's go with a map of 1681 cells: one of n cells weighs its ranks alike with
    decay^(1681 / n). The first two terms are means over their classes, and 0 where there is none.
    """
    classes = logits.shape[-1]
    valid = spread(real, logits.shape[:1]) if covered is None else covered.any((1, 2)) & spread(real, logits.shape[:1])
    cells = None if covered is None else covered.reshape(len(logits), -1)
    counted = valid if covered is None else valid[:, None, None] & covered
    p = (jax.nn.softmax(shield(logits, counted)) + FLOOR) / (1 + classes * FLOOR)
    p = p.reshape(len(p), -1, classes)

    def pooled(decay):  # (B, K - 1)
        return jnp.stack([rank_pool(p[..., c], decay, cells) for c in range(1, classes)], 1)

    present = present[:, 1:]
    found = _mean_over(-jnp.log(jnp.maximum(pooled(foreground), FLOOR)), present)
    wrong = _mean_over(-jnp.log(jnp.maximum(1 - pooled(absent), FLOOR)), ~present)
    ground = -jnp.log(jnp.maximum(rank_pool(p[..., 0], background, cells), FLOOR))
    return total(found + wrong + ground, valid)


def _mean_over(values, chosen):
    return jnp.where(chosen, values, 0).sum(1) / jnp.maximum(chosen.sum(1), 1)


def constrain(
    logits: Array, refined: Array, real: Array | None = None, covered: Array | None = None
) -> tuple[Array, Array]:
    """KL(q | p), the mean over an image's cells, of p = softmax(logits) from q = softmax(refined), what a CRF makes of p.

    No gradient passes through `refined` (B, h, w, K), the logits that the CRF returns.
    """
    cells = spread(covered, logits.shape[:3]) & spread(real, logits.shape[:3])
    log_p = jax.nn.log_softmax(shield(logits, cells))
    log_q = jax.nn.log_softmax(shield(jax.lax.stop_gradient(refined), cells))
    divergence = jnp.where(cells, (jnp.exp(log_q) * (log_q - log_p)).sum(-1), 0).sum((1, 2))
    number = cells.sum((1, 2))
    return total(divergence / jnp.maximum(number, 1), number > 0)
