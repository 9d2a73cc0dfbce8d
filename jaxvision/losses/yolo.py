"""The loss of YOLO (Redmon et al., "You Only Look Once", CVPR 2016, equation 3), as Darknet computes it.

A picture is a grid of cells, each of which predicts some boxes and one distribution over the classes. A box is x, y, the
place of its centre in the cell (0..1 from the left and the top), and the square roots of its width and height in shares of
the picture: the network gives the roots, which are squared, so that none of a negative number is ever taken.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.losses.reduction import spread, total
from jaxvision.ops import boxes as box_ops


def to_shares(coordinates: Array) -> Array:
    """Boxes (...,H,W,n,4) as a grid of H x W cells predicts them to centre x, y, width, height in shares of the picture."""
    height, width = coordinates.shape[-4:-2]
    column, row = jnp.meshgrid(jnp.arange(width), jnp.arange(height))
    corner = jnp.stack([column, row], -1)[:, :, None]
    return jnp.concatenate(
        [(coordinates[..., :2] + corner) / jnp.array([width, height]), coordinates[..., 2:] ** 2], -1
    )


def cell_owners(boxes: Array, valid: Array, grid: tuple[int, int]) -> Array:
    """For each of the H W cells, row by row, the row of the object (N,4), in shares, whose centre it holds, or N: none.

    Of several the first row has the cell, and the others teach nothing: a cell has one object. Darknet takes the first
    too, of an order that it shuffles. A centre on the right or lower edge of the picture is in the last cell.
    """
    height, width = grid
    centres = box_ops.xyxy_to_cxcywh(boxes)[:, :2]
    column, row = jnp.clip(jnp.floor(centres * jnp.array([width, height])), 0, jnp.array([width, height]) - 1).T
    inside = valid & ((row * width + column).astype(jnp.int32) == jnp.arange(height * width)[:, None])
    return jnp.where(inside.any(1), inside.argmax(1), len(boxes)).astype(jnp.int32)


def responsible_boxes(predicted: Array, target: Array) -> tuple[Array, Array]:
    """Which of a cell's boxes (n,4) answers for its object (4,), all in cx cy w h, and its IoU with it.

    That of the greatest IoU, the first of equals. Where none overlaps the object, that of the smallest root of the mean
    squared difference of the four numbers, as in Darknet.
    """
    iou = box_ops.iou(*map(box_ops.cxcywh_to_xyxy, (predicted, target[None])))[:, 0]
    best = jnp.where(iou.max() > 0, iou.argmax(), ((predicted - target) ** 2).sum(-1).argmin())
    return best, iou[best]


def yolo(
    coordinates: Array,
    confidences: Array,
    logits: Array,
    boxes: Array,
    classes: Array,
    valid: Array,
    real: Array | None = None,
) -> dict[str, tuple[Array, Array]]:
    """{name: (sum of squares, number of images)} of the four terms, unweighted.

    coordinates (B,H,W,n,4), confidences (B,H,W,n), logits (B,H,W,C): what the cells predict, all of it linear. boxes
    (B,N,4): x1 y1 x2 y2 in shares of the picture; classes (B,N) in 0..C-1; valid (B,N). real (B,): images that count.
    `coordinates`: of the responsible box of each cell with an object. `object`: its confidence against its current IoU,
      through which no gradient passes. `no_object`: all other confidences against 0. `class`: once for each cell with an
      object, against a one-hot vector.
    The gradient is that of the paper's formula; Darknet's own is half of it.
    """
    found = jax.vmap(_one)(coordinates, confidences, logits, boxes, classes, valid)
    real = spread(real, logits.shape[:1])
    return {name: total(sums, real) for name, sums in found.items()}


def _one(coordinates, confidences, logits, boxes, classes, valid):
    """The four sums of one image."""
    grid, count = coordinates.shape[:2], coordinates.shape[2]
    owner = cell_owners(boxes, valid, grid)
    owned = owner < len(boxes)
    target = jnp.where(owned[:, None], boxes[jnp.minimum(owner, len(boxes) - 1)], 0)
    target = box_ops.xyxy_to_cxcywh(target)
    current = jax.lax.stop_gradient(to_shares(coordinates.astype(jnp.float32))).reshape(-1, count, 4)
    best, iou = jax.vmap(responsible_boxes)(current, target)

    def of_best(values):  # (cells, n, ...) to (cells, ...)
        return jax.vmap(lambda cell, index: cell[index])(values, best)

    place = target[:, :2] * jnp.array(grid[::-1])
    cell = jnp.arange(len(owner))
    place -= jnp.stack([cell % grid[1], cell // grid[1]], -1)
    wanted = jnp.concatenate([place, jnp.sqrt(jnp.maximum(target[:, 2:], 0))], -1)
    errors = (of_best(coordinates.astype(jnp.float32).reshape(-1, count, 4)) - wanted) ** 2
    confidences = confidences.astype(jnp.float32).reshape(-1, count)
    own = of_best(confidences)
    kinds = classes[jnp.minimum(owner, len(boxes) - 1)]
    logits = logits.astype(jnp.float32).reshape(len(owner), -1)
    class_errors = (logits - jax.nn.one_hot(kinds, logits.shape[1])) ** 2
    return {
        "coordinates": jnp.where(owned, errors.sum(1), 0).sum(),
        "object": jnp.where(owned, (own - iou) ** 2, 0).sum(),
        "no_object": (confidences**2).sum() - jnp.where(owned, own**2, 0).sum(),
        "class": jnp.where(owned, class_errors.sum(1), 0).sum(),
    }
