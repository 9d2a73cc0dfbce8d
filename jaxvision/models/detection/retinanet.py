"""RetinaNet (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017) on a ResNet with a feature pyramid."""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxvision.architecture import Architecture, extends
from jaxvision.batch import real_rows
from jaxvision.losses.box_regression import giou, l1
from jaxvision.losses.focal import sigmoid_focal
from jaxvision.losses.reduction import spread, total
from jaxvision.models.detection.single_shot.detect import predict
from jaxvision.models.detection.single_shot.detector import dense_detector
from jaxvision.models.detection.single_shot.head import PRIOR
from jaxvision.ops import boxes as box_ops
from jaxvision.ops.matching import BETWEEN, match

# Three sizes an octave, in whole pixels as torchvision cuts them.
ANCHOR_SIZES = tuple((size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))) for size in (32, 64, 128, 256, 512))
BOX_LOSSES = ("l1", "giou")


def score(found: Mapping[str, jax.Array]) -> jax.Array:
    """Every class by itself: a sigmoid."""
    return jax.nn.sigmoid(found["logits"])


def losses(
    outputs: Mapping[str, jax.Array],
    batch: Mapping[str, jax.Array],
    box_loss: str = "l1",
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> dict:
    """`class` (focal) and `box`: the mean over images of each one's sum over max(1, its positive anchors).

    An anchor is positive at an IoU of 0.5 or more and where it is some object's best, negative below 0.4, and between
    these left out of the class loss. box_loss: "l1" of the offsets or "giou" of the boxes. alpha, gamma: see `sigmoid_focal`.
    """
    anchors = outputs["anchors"]

    def one(logits, deltas, boxes, classes, valid):
        matches = match(box_ops.iou(boxes, anchors), valid, 0.5, 0.4, low_quality=True)
        positive, own = matches >= 0, jnp.maximum(matches, 0)
        labels = jnp.where(positive, classes[own], -1)
        target = labels[:, None] == jnp.arange(logits.shape[1])
        focal, _ = sigmoid_focal(logits, target, matches != BETWEEN, alpha, gamma)
        if box_loss == "l1":
            box, count = l1(deltas, box_ops.encode(boxes[own], anchors), positive)
        else:
            box, count = giou(box_ops.decode(deltas, anchors), boxes[own], positive)
        return focal / jnp.maximum(count, 1), box / jnp.maximum(count, 1)

    ratios = jax.vmap(one)(outputs["logits"], outputs["deltas"], batch["boxes"], batch["classes"], batch["valid"])
    real = spread(real_rows(batch), ratios[0].shape)
    return {name: total(ratio, real) for name, ratio in zip(("class", "box"), ratios)}


@extends(dense_detector)
def retinanet(
    num_classes: int,
    anchor_sizes: Sequence[Sequence[float]] = ANCHOR_SIZES,
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    box_loss: str = "l1",
    alpha: float = 0.25,
    gamma: float = 2.0,
    head_norm: str = "none",
    detections: int = 300,
    **options,
) -> Architecture:
    """RetinaNet; `options` are those of `dense_detector`. The defaults are torchvision's first version; the second has
    `extra="c5"`, `head_norm="group"`, `box_loss="giou"` and `norm="batch"`.

    anchor_sizes: one tuple a level, the finest first. box_loss: "l1" or "giou". alpha, gamma: of the focal loss, see
    `sigmoid_focal`.

    Departure: the paper's box loss is smooth L1; torchvision's is L1.
    """
    if box_loss not in BOX_LOSSES:
        raise ValueError(f"box_loss {box_loss!r} is not one of {', '.join(BOX_LOSSES)}.")
    model = dense_detector(
        {"logits": (num_classes, PRIOR)},
        {"deltas": (4, 0.0)},
        anchor_sizes,
        anchor_ratios,
        box_ops.decode,
        score,
        head_norm == "none",
        head_norm=head_norm,
        detections=detections,
        **options,
    )
    matched = functools.partial(losses, box_loss=box_loss, alpha=alpha, gamma=gamma)
    return Architecture("retinanet", model, matched, predict, "detection")
