"""RetinaNet (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017) on a ResNet with a feature pyramid."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.architecture import Architecture
from jaxvision.batch import real_rows
from jaxvision.losses.box_regression import giou, l1
from jaxvision.losses.focal import sigmoid_focal
from jaxvision.losses.reduction import spread, total
from jaxvision.models.detection.single_shot.detect import predict
from jaxvision.models.detection.single_shot.detector import DenseDetector, pyramid
from jaxvision.models.detection.single_shot.head import PRIOR, Head
from jaxvision.ops import boxes as box_ops
from jaxvision.ops.matching import BETWEEN, match

# Three sizes an octave, in whole pixels as torchvision cuts them.
ANCHOR_SIZES = tuple((size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))) for size in (32, 64, 128, 256, 512))
BOX_LOSSES = ("l1", "giou")


def score(found: Mapping[str, jax.Array]) -> jax.Array:
    """Every class by itself: a sigmoid."""
    return jax.nn.sigmoid(found["logits"])


def losses(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], box_loss: str = "l1") -> dict:
    """`class` (focal) and `box`: the mean over images of each one's sum over max(1, its positive anchors).

    An anchor is positive at an IoU of 0.5 or more and where it is some object's best, negative below 0.4, and between
    these left out of the class loss. box_loss: "l1" of the offsets or "giou" of the boxes.
    """
    anchors = outputs["anchors"]

    def one(logits, deltas, boxes, classes, valid):
        matches = match(box_ops.iou(boxes, anchors), valid, 0.5, 0.4, low_quality=True)
        positive, own = matches >= 0, jnp.maximum(matches, 0)
        labels = jnp.where(positive, classes[own], -1)
        focal, _ = sigmoid_focal(logits, labels[:, None] == jnp.arange(logits.shape[1]), matches != BETWEEN)
        if box_loss == "l1":
            box, count = l1(deltas, box_ops.encode(boxes[own], anchors), positive)
        else:
            box, count = giou(box_ops.decode(deltas, anchors), boxes[own], positive)
        return focal / jnp.maximum(count, 1), box / jnp.maximum(count, 1)

    ratios = jax.vmap(one)(outputs["logits"], outputs["deltas"], batch["boxes"], batch["classes"], batch["valid"])
    real = spread(real_rows(batch), ratios[0].shape)
    return {name: total(ratio, real) for name, ratio in zip(("class", "box"), ratios)}


def retinanet(
    num_classes: int,
    backbone: str = "resnet50_fpn",
    depths: Sequence[int] | None = None,
    block: str | None = None,
    widths: Sequence[int] = (64, 128, 256, 512),
    stem: str = "pool",
    stem_width: int = 64,
    norm: str = "frozen",
    fpn: int = 256,
    fpn_norm: str = "none",
    levels: Sequence[str] = ("c3", "c4", "c5"),
    extra: str = "p5",
    head_convs: int = 4,
    head_norm: str = "none",
    anchor_sizes: Sequence[Sequence[float]] = ANCHOR_SIZES,
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    box_loss: str = "l1",
    first_class: int = 1,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    candidates: int = 1000,
    detections: int = 300,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """RetinaNet; the defaults are torchvision's first version. The second has `extra="c5"`, `head_norm="group"`,
    `box_loss="giou"` and `norm="batch"`.

    backbone: "resnet18_fpn" ... "resnet152_fpn"; `block`, `depths`, `widths`, `stem` override parts of it.
    norm, fpn_norm, head_norm: of the trunk, the pyramid, and the heads' convolutions ("group" or "none"); see `Norm`.
    levels: the trunk's maps that the pyramid begins with; extra: what it adds above, see `FPN`.
    anchor_sizes: one tuple a level, the finest first. box_loss: "l1" or "giou".
    first_class: the first channel that is predicted. Channel 0 is the background's, which no anchor ever learns and
      torchvision predicts as any other: its weights with `first_class=0` give its numbers.
    candidates: pairs of anchor and class a level that go into NMS.

    Departure: the paper's box loss is smooth L1; torchvision's is L1.
    """
    if box_loss not in BOX_LOSSES:
        raise ValueError(f"box_loss {box_loss!r} is not one of {', '.join(BOX_LOSSES)}.")
    options = {"depths": depths and tuple(depths), "block": block, "widths": tuple(widths), "stem": stem}
    options |= {"stem_width": stem_width, "norm": norm, "remat": remat}
    options |= {"fpn": fpn, "fpn_norm": fpn_norm, "axis": axis, "dtype": dtype}
    trunk, neck = pyramid(backbone, levels, extra, anchor_sizes, **options)
    anchors = len(anchor_sizes[0]) * len(anchor_ratios)
    head = functools.partial(
        Head, anchors=anchors, features=fpn, convs=head_convs, norm=head_norm, bias=head_norm == "none", dtype=dtype
    )
    model = DenseDetector(
        trunk=trunk,
        fpn=neck,
        class_head=head({"logits": (num_classes, PRIOR)}),
        box_head=head({"deltas": (4, 0.0)}),
        sizes=tuple(map(tuple, anchor_sizes)),
        ratios=tuple(anchor_ratios),
        decode=box_ops.decode,
        score=score,
        options=dict(
            first_class=first_class,
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
            candidates=candidates,
            detections=detections,
        ),
    )
    return Architecture("retinanet", model, functools.partial(losses, box_loss=box_loss), predict, "detection")
