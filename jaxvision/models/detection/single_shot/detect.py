"""From scored boxes to detections: the rule that RetinaNet and FCOS share, and that of SSD and YOLO."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxvision.ops import boxes as box_ops
from jaxvision.ops.nms import blank, nms, top_detections


def detect(
    anchors: Sequence[jax.Array],
    scores: Sequence[jax.Array],
    offsets: Sequence[jax.Array],
    image_size: jax.Array,
    *,
    decode: Callable[[jax.Array, jax.Array], jax.Array],
    first_class: int,
    score_threshold: float,
    nms_threshold: float,
    candidates: int,
    detections: int,
    logits: Sequence[jax.Array] | None = None,
) -> dict[str, jax.Array]:
    """`boxes` (B,D,4), `classes`, `scores`, `valid` (B,D), best first, `score_logits` (B,D), their values in `logits`, which
    are laid out as the scores and by default they themselves, and `overflow` (B,): how many scores above the threshold did
    not fit among a level's `candidates`.

    anchors (A,4), scores (B,A,K) in 0..1, offsets (B,A,4): one array a level. Of each level the best `candidates` pairs
    of an anchor and a class above the threshold become boxes, `decode(offsets, anchors)`, clipped to the image; NMS runs
    over all levels within each class. Classes below `first_class` are not predicted.
    """

    def level(anchors, scores, offsets, logits):
        """The best pairs: boxes, classes, scores, logits, and how many pairs were left out."""
        scores = scores[:, first_class:]
        rows, kinds = scores.shape
        above = (scores > score_threshold).sum()
        # The k best pairs are of the k anchors whose best class is best: a short list to sort in place of a long one.
        best = jnp.sort(jax.lax.top_k(scores.max(1), min(candidates, rows))[1])
        count = min(candidates, rows * kinds)
        scores, pair = jax.lax.top_k(scores[best].reshape(-1), count)
        row = best[pair // kinds]
        boxes, classes = decode(offsets[row], anchors[row]), pair % kinds + first_class
        return boxes, classes, scores, logits[row, classes], jnp.maximum(above - count, 0)

    def one(scores, offsets, logits, size):
        *found, overflow = zip(*map(level, anchors, scores, offsets, logits))
        boxes, classes, scores, logits = map(jnp.concatenate, found)
        boxes = box_ops.clip(boxes, size)
        kept, valid = top_detections(boxes, scores, classes, scores > score_threshold, nms_threshold, detections)
        found = {"boxes": boxes, "classes": classes, "scores": scores, "score_logits": logits}
        return {name: value[kept] for name, value in found.items()} | {"valid": valid, "overflow": sum(overflow)}

    return blank(jax.vmap(one)(scores, offsets, scores if logits is None else logits, image_size))


def detect_by_class(
    boxes: jax.Array,
    scores: jax.Array,
    *,
    score_threshold: float,
    nms_threshold: float,
    candidates: int,
    detections: int,
    logits: jax.Array,
) -> dict[str, jax.Array]:
    """`boxes` (B,D,4), `classes`, `scores`, `valid` (B,D), best first, `score_logits` (B,D) and `overflow` (B,).

    boxes (B,A,4), scores and logits (B,A,K) of classes 1 to K. Each class keeps its best `candidates` boxes above the score
    threshold and thins them by NMS; the best `detections` of all classes remain. `overflow` counts the boxes above the
    threshold that were no candidates.
    """
    thin = jax.vmap(lambda boxes, scores: nms(boxes, scores, nms_threshold, valid=scores > -jnp.inf))

    def one(boxes, scores, logits):
        scores = scores.T
        above = scores > score_threshold
        best, rows = jax.lax.top_k(jnp.where(above, scores, -jnp.inf), min(candidates, len(boxes)))
        keep = thin(boxes[rows], best)
        best, index = jax.lax.top_k(jnp.where(keep, best, -jnp.inf).ravel(), min(detections, keep.size))
        overflow = jnp.maximum(above.sum(1) - candidates, 0).sum()
        row, kind = rows.ravel()[index], index // rows.shape[1]
        found = {"boxes": boxes[row], "classes": kind + 1, "scores": best, "valid": best > -jnp.inf}
        return found | {"score_logits": logits[row, kind], "overflow": overflow}

    return blank(jax.vmap(one)(boxes, scores, logits))


def predict(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """boxes, classes, scores, valid and overflow, best first."""
    return {name: outputs[name] for name in ("boxes", "classes", "scores", "valid", "overflow")}
