"""FCOS (Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019), with centre sampling.

An anchor here is a cell of the pyramid: a square of side `stride` whose centre is the point that FCOS speaks of.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxvision.architecture import Architecture, extends
from jaxvision.batch import real_rows
from jaxvision.losses.box_regression import giou
from jaxvision.losses.cross_entropy import sigmoid_cross_entropy
from jaxvision.losses.focal import sigmoid_focal
from jaxvision.losses.reduction import spread
from jaxvision.models.detection.single_shot.detect import predict
from jaxvision.models.detection.single_shot.detector import dense_detector
from jaxvision.models.detection.single_shot.head import PRIOR
from jaxvision.ops import boxes as box_ops
from jaxvision.ops.matching import BELOW


def _centres_and_sides(anchors):
    return (anchors[..., :2] + anchors[..., 2:]) / 2, anchors[..., 2:] - anchors[..., :2]


def decode(deltas: jax.Array, anchors: jax.Array) -> jax.Array:
    """Boxes (..., 4) from the distances left, top, right and bottom, in sides of the anchor; negative ones are 0."""
    centres, sides = _centres_and_sides(anchors)
    near, far = jnp.split(jax.nn.relu(deltas) * jnp.concatenate([sides, sides], -1), 2, -1)
    return jnp.concatenate([centres - near, centres + far], -1)


def distances(boxes: jax.Array, anchors: jax.Array) -> jax.Array:
    """From the anchors' centres to a box's left, top, right and bottom edges (..., 4), in pixels, negative outside."""
    centres, _ = _centres_and_sides(anchors)
    return jnp.concatenate([centres - boxes[..., :2], boxes[..., 2:] - centres], -1)


def centerness(boxes: jax.Array, anchors: jax.Array, inside: jax.Array) -> jax.Array:
    """1 at a box's centre, 0 at its edges: sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)); 1 where not `inside`."""
    near, far = jnp.split(jnp.where(inside[..., None], distances(boxes, anchors), 1), 2, -1)
    return jnp.sqrt((jnp.minimum(near, far) / jnp.maximum(near, far)).prod(-1))


def match_centres(
    boxes: jax.Array, valid: jax.Array, anchors: jax.Array, radius: float, scale_range: tuple[float, float]
) -> jax.Array:
    """For each anchor (A,4) the row of its box (G,4), of those that are `valid` (G,), or BELOW: (A,) int32.

    An anchor's centre must lie in the box and within `radius` sides of the box's centre, and its farthest edge between
    `scale_range` sides away; the smallest anchors take everything nearer, the largest everything farther. Of several
    boxes the smallest wins, of equals the first.

    Departure: torchvision compares 1e8 - area in float32, and so finds areas equal that differ by less than 8 pixels.
    """
    centres, sides = _centres_and_sides(anchors)
    side = sides[:, 0]
    low = jnp.where(side == side.min(), 0, scale_range[0] * side)
    high = jnp.where(side == side.max(), jnp.inf, scale_range[1] * side)
    apart = abs(centres[:, None] - _centres_and_sides(boxes)[0]).max(-1)
    edges = distances(boxes, anchors[:, None])
    farthest = edges.max(-1)
    eligible = valid & (edges.min(-1) > 0) & (apart < radius * side[:, None])
    eligible &= (farthest > low[:, None]) & (farthest < high[:, None])
    areas = jnp.where(eligible, box_ops.area(boxes), jnp.inf)
    return jnp.where(eligible.any(1), areas.argmin(1), BELOW).astype(jnp.int32)


def score(found: Mapping[str, jax.Array]) -> jax.Array:
    """The geometric mean of class and centerness."""
    return jnp.sqrt(jax.nn.sigmoid(found["logits"]) * jax.nn.sigmoid(found["centerness"]))


def losses(
    outputs: Mapping[str, jax.Array],
    batch: Mapping[str, jax.Array],
    radius: float = 1.5,
    scale_range: tuple[float, float] = (4, 8),
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> dict:
    """`class` (focal), `box` (GIoU) and `centerness`, each over the positive anchors of the batch; see `match_centres`.

    alpha, gamma: see `sigmoid_focal`.
    """
    anchors = outputs["anchors"]

    def one(logits, deltas, centre_logits, boxes, classes, valid):
        matches = match_centres(boxes, valid, anchors, radius, scale_range)
        positive, own = matches >= 0, jnp.maximum(matches, 0)
        labels, boxes = jnp.where(positive, classes[own], -1), boxes[own]
        focal, _ = sigmoid_focal(logits, labels[:, None] == jnp.arange(logits.shape[1]), None, alpha, gamma)
        box, count = giou(decode(deltas, anchors), boxes, positive)
        targets = centerness(boxes, anchors, positive)
        centre, _ = sigmoid_cross_entropy(centre_logits[:, 0], targets, positive)
        return jnp.stack([focal, box, centre]), count

    rows = [outputs[name] for name in ("logits", "deltas", "centerness")]
    sums, counts = jax.vmap(one)(*rows, batch["boxes"], batch["classes"], batch["valid"])
    real = spread(real_rows(batch), counts.shape)
    count = jnp.where(real, counts, 0).sum()
    sums = jnp.where(real[:, None], sums, 0).sum(0)
    return {name: (sums[i], count) for i, name in enumerate(("class", "box", "centerness"))}


@extends(dense_detector)
def fcos(
    num_classes: int,
    cells: Sequence[int] = (8, 16, 32, 64, 128),
    radius: float = 1.5,
    scale_range: tuple[float, float] = (4, 8),
    alpha: float = 0.25,
    gamma: float = 2.0,
    head_norm: str = "group",
    score_threshold: float = 0.2,
    nms_threshold: float = 0.6,
    **options,
) -> Architecture:
    """FCOS as torchvision has it: centerness beside the box, GIoU, distances in cells of their level. `options` are those
    of `dense_detector`.

    cells: the side of each level's cells, its stride, the finest first, in pixels.
    radius: of the centre that is positive, scale_range: of the farthest edge, both in cells; see `match_centres`.
    alpha, gamma: of the focal loss, see `sigmoid_focal`.
    """
    if list(cells) != sorted(set(cells)):
        raise ValueError(f"cells must grow from level to level, got {cells}.")
    model = dense_detector(
        {"logits": (num_classes, PRIOR)},
        {"deltas": (4, 0.0), "centerness": (1, 0.0)},
        tuple((cell,) for cell in cells),
        (1.0,),
        decode,
        score,
        True,
        head_norm=head_norm,
        score_threshold=score_threshold,
        nms_threshold=nms_threshold,
        **options,
    )
    matched = functools.partial(losses, radius=radius, scale_range=tuple(scale_range), alpha=alpha, gamma=gamma)
    return Architecture("fcos", model, matched, predict, "detection")
