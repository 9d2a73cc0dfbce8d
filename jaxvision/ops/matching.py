"""Assignment of ground truth to anchors or proposals by their overlap."""

import jax.numpy as jnp
from jax import Array, lax

BELOW = -1  # background: no ground truth overlaps by `low`
BETWEEN = -2  # neither background nor object: left out of the loss


def match(iou: Array, valid: Array, high: float, low: float, low_quality: bool = False) -> Array:
    """For each anchor the row of its ground truth, or BELOW, or BETWEEN: (A,) int32.

    `iou` (G, A) holds the overlaps of the ground truths, of which `valid` (G,) exist; the others never match. An anchor
    takes its best ground truth (the first of equals) if they overlap by `high` or more, is BELOW under `low`, and
    BETWEEN otherwise. With `low_quality` every anchor that is the best of some ground truth, ties included, takes the
    anchor's own best ground truth at any overlap: torchvision's Matcher.

    Departure: a ground truth that overlaps no anchor forces no match. In torchvision its best overlap, 0, is tied
    everywhere and turns every anchor into an object.
    """
    if iou.shape[0] == 0:
        return jnp.full(iou.shape[1], BELOW, jnp.int32)
    iou = jnp.where(valid[:, None], iou, -1)
    best, own = iou.max(0), iou.argmax(0).astype(jnp.int32)
    matched = jnp.where(best >= high, own, jnp.where(best < low, BELOW, BETWEEN))
    if low_quality:
        peak = iou.max(1, keepdims=True)
        forced = ((iou == peak) & (peak > 0)).any(0)
        matched = jnp.where(forced, own, matched)
    return matched


def claim_best(matches: Array, iou: Array, valid: Array) -> Array:
    """`matches` (A,) of `match`, in which each ground truth also has the anchor that overlaps it best (the first of equals).

    Where several claim one anchor the last of them has it, and the others may end without any: torchvision's SSDMatcher.
    As in `match`, rows that are not `valid` (G,) of `iou` (G, A) claim nothing, and neither does a ground truth that
    overlaps no anchor; torchvision gives it the first one.
    """
    if iou.shape[0] == 0:
        return matches
    best = iou.argmax(1)
    claims = valid & (iou.max(1) > 0)
    wanted = claims[:, None] & (best[:, None] == jnp.arange(iou.shape[1]))
    owner = jnp.where(wanted, jnp.arange(len(iou), dtype=jnp.int32)[:, None], BELOW).max(0)
    return jnp.where(owner >= 0, owner, matches)


def claim_own(matches: Array, iou: Array, valid: Array) -> Array:
    """`matches` (A,) of `match`, in which each ground truth also has an anchor of its own: SSD's bipartite matching.

    Of all pairs the one that overlaps best is taken first, then the best of the ground truths and anchors that are left, until
    none is left that overlaps; of equals the first anchor, then the first ground truth (the authors' Caffe). Unlike in
    `claim_best` several never claim one anchor.
    """
    count = iou.shape[0]
    if count == 0:
        return matches
    iou = jnp.where(valid[:, None], iou, 0).T

    def take(state):
        owner, waiting, _ = state
        left = jnp.where(waiting & (owner < 0)[:, None], iou, 0).ravel()
        best = left.argmax()
        anchor, row, found = best // count, best % count, left[best] > 0
        owner = jnp.where(found, owner.at[anchor].set(row.astype(jnp.int32)), owner)
        return owner, waiting.at[row].set(waiting[row] & ~found), found

    nobody = jnp.full(matches.shape, BELOW, jnp.int32)
    owner, _, _ = lax.while_loop(lambda state: state[2], take, (nobody, valid, valid.any()))
    return jnp.where(owner >= 0, owner, matches)
