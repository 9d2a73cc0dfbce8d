"""Detection as plain regression: the first idea that comes to mind, and why it fails.

A classifier (here VGG; Simonyan & Zisserman, ICLR 2015) is given N (K + 4) outputs in place of K, which are read as N slots:
scores of the K classes, the background among them, and a box. A picture holds any number of objects and a network says a
fixed one, so each object must be given a slot, and each slot must know its object: here the objects are ordered, by default
from left to right, and the n-th is slot n's. That is what fails. One more object at the left moves all others on by a slot; of
two objects that stand almost above each other a pixel decides which comes first; and a slot that cannot know, learns the
mean of what it might be asked for, which is a box around nothing. What came after gives each place its own outputs, as YOLO's
cells, or classifies one region at a time.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.architecture import Architecture
from jaxvision.batch import real_rows
from jaxvision.losses.box_regression import l2
from jaxvision.losses.cross_entropy import softmax_cross_entropy
from jaxvision.losses.reduction import spread
from jaxvision.models.backbones.vgg import VGG, VGG16, VGGClassifier
from jaxvision.ops import boxes as box_ops
from jaxvision.ops.nms import blank

ORDERS = {  # the least comes first
    "left": lambda boxes: boxes[:, 0],
    "top": lambda boxes: boxes[:, 1],
    "largest": lambda boxes: -box_ops.area(boxes),
}


def assign(boxes: jax.Array, valid: jax.Array, slots: int, order: str) -> tuple[jax.Array, jax.Array]:
    """(the row of each slot's object, whether it has one), both (slots,), of objects (N,4) that are `valid` (N,).

    In `order`, of equals the first row first. Objects beyond the last slot teach nothing.
    """
    rows = jnp.argsort(jnp.where(valid, ORDERS[order](boxes), jnp.inf))[:slots]
    rows = jnp.pad(rows, (0, slots - len(rows)))
    return rows, jnp.arange(slots) < valid.sum()


def read(outputs: Mapping[str, jax.Array], slots: int) -> tuple[jax.Array, jax.Array]:
    """The network's numbers as class scores (B,slots,K) and boxes (B,slots,4) x1 y1 x2 y2 in shares of the canvas."""
    numbers = outputs["logits"].reshape(len(outputs["logits"]), slots, -1)
    return numbers[..., :-4], numbers[..., -4:]


def losses(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, slots: int, order: str) -> dict:
    """`class`, cross-entropy over all slots, those without an object being background, and `box`, the squared error of the
    four edges in shares of the canvas, over the slots with one."""
    height, width = batch["image"].shape[1:3]
    logits, edges = read(outputs, slots)
    rows, filled = jax.vmap(functools.partial(assign, slots=slots, order=order))(batch["boxes"], batch["valid"])
    labels = jnp.where(filled, jnp.take_along_axis(batch["classes"], rows, 1), 0)
    targets = jnp.take_along_axis(batch["boxes"], rows[..., None], 1) / jnp.array([width, height] * 2, jnp.float32)
    real = spread(real_rows(batch), labels.shape)
    return {"class": softmax_cross_entropy(logits, labels, real), "box": l2(edges, targets, filled & real)}


def predict(outputs, batch, *, slots: int, score_threshold: float) -> dict[str, jax.Array]:
    """boxes, classes, scores, score_logits and valid, best first: of each slot its likeliest class but the background.

    There is no suppression: that no two slots say the same object is what the order is for.
    """
    height, width = batch["image"].shape[1:3]
    logits, edges = read(outputs, slots)
    probabilities = jax.nn.softmax(logits)[..., 1:]
    scores = probabilities.max(-1)
    order = jnp.argsort(scores, descending=True)
    scores = jnp.take_along_axis(scores, order, 1)
    classes = jnp.take_along_axis(probabilities.argmax(-1), order, 1) + 1
    own = jnp.take_along_axis(jnp.take_along_axis(logits, order[..., None], 1), classes[..., None], 2)[..., 0]
    boxes = jnp.take_along_axis(edges, order[..., None], 1) * jnp.array([width, height] * 2, jnp.float32)
    boxes = jnp.concatenate([boxes[..., :2], jnp.maximum(boxes[..., :2], boxes[..., 2:])], -1)
    boxes = jax.vmap(box_ops.clip)(boxes, batch["image_size"])
    valid = scores > score_threshold
    classes = classes.astype(jnp.int32)
    return blank({"boxes": boxes, "classes": classes, "scores": scores, "score_logits": own, "valid": valid})


def regression_detector(
    num_classes: int,
    slots: int = 10,
    order: str = "left",
    depths: Sequence[int] = VGG16[0],
    widths: Sequence[int] = VGG16[1],
    fc: int = 4096,
    dropout: float = 0.5,
    score_threshold: float = 0.05,
    norm: str = "none",
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """A VGG classifier whose outputs are `slots` boxes and their classes; see above.

    order: of the objects, "left" (to right), "top" (to bottom) or "largest" (first). depths, widths, norm: of VGG's five
    blocks; fc: channels of fc6 and fc7. The weight of the box's loss is 20, as a share of the canvas is a small number.
    Raises ValueError for another order.
    """
    if order not in ORDERS:
        raise ValueError(f"order {order!r} is not one of {', '.join(ORDERS)}.")
    trunk = VGG(tuple(depths), tuple(widths), norm=norm, axis=axis, remat=remat, dtype=dtype)
    return Architecture(
        "regression_detector",
        VGGClassifier(trunk, slots * (num_classes + 4), fc, dropout, dtype),
        functools.partial(losses, slots=slots, order=order),
        functools.partial(predict, slots=slots, score_threshold=score_threshold),
        "detection",
        {"box": 20.0},
    )
