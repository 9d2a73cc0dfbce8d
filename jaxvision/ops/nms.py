"""Greedy non-maximum suppression in a static shape."""

import jax.numpy as jnp
from jax import Array, lax

from jaxvision.ops import boxes as box_ops


def nms(
    boxes: Array, scores: Array, threshold: float, classes: Array | None = None, valid: Array | None = None
) -> Array:
    """Which boxes greedy suppression keeps: (N,) bool in the order of the input.

    From the best score down (of equals the lower index first) a box (N, 4) is kept unless a kept box before it overlaps
    it by an IoU greater than `threshold`. With `classes` (N,) only boxes of one class suppress each other; classes are
    compared, where torchvision moves boxes apart by class and so rounds their coordinates. Rows that are not `valid`
    (N,) are not kept and suppress nothing.

    Exactly greedy at any threshold: with every box kept at first, "keep what no kept better box suppresses" is repeated
    until nothing changes. Each pass settles at least the best box not yet settled, and in practice a handful of passes
    settles all; vmap runs them for a whole batch at once. Needs N² bytes.
    """
    row = jnp.arange(len(scores))
    before = (scores[:, None] > scores) | ((scores[:, None] == scores) & (row[:, None] < row))
    suppresses = before & (box_ops.iou(boxes, boxes) > threshold)
    if classes is not None:
        suppresses &= classes[:, None] == classes
    start = jnp.ones(len(scores), bool) if valid is None else valid

    def improve(state):
        keep, _ = state
        return start & ~(suppresses & keep[:, None]).any(0), keep

    keep, _ = lax.while_loop(lambda state: (state[0] != state[1]).any(), improve, improve((start, start)))
    return keep


def top_detections(
    boxes: Array, scores: Array, classes: Array | None, valid: Array | None, threshold: float, count: int
) -> tuple[Array, Array]:
    """The best `count` boxes that `nms` keeps, best first: indices (count,) int32 and valid (count,) bool.

    The index of a row that is not valid is 0. Where `count` exceeds N the last rows are not valid.
    """
    keep = nms(boxes, scores, threshold, classes, valid)
    indices = lax.top_k(jnp.where(keep, scores, -jnp.inf), min(count, len(scores)))[1]
    found = keep[indices]
    missing = (0, count - len(indices))
    return jnp.pad(jnp.where(found, indices, 0), missing), jnp.pad(found, missing)


def blank(found: dict[str, Array]) -> dict[str, Array]:
    """Detections with zeros in place of `boxes`, `scores` and `score_logits` where they are not `valid`."""
    valid = found["valid"]
    boxes = jnp.where(valid[..., None], found["boxes"], 0)
    return found | {"boxes": boxes} | {name: jnp.where(valid, found[name], 0) for name in ("scores", "score_logits")}
