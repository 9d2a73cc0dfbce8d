"""Classification and localisation of one object an image: a classifier with four numbers more, or four for each class.

Simonyan & Zisserman, "Very Deep Convolutional Networks", ICLR 2015, appendix A, whose two forms are one box (SCR) and one for
each class (PCR); Sermanet et al., "OverFeat", ICLR 2014. The losses of class and box are added; the factor of the second,
often called alpha, is the weight `losses.box`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.batch import real_rows
from jaxvision.losses.cross_entropy import softmax_cross_entropy
from jaxvision.losses.reduction import spread
from jaxvision.models.backbones.trunk import classifier_trunk
from jaxvision.models.single_object.features import dense_features, regression_loss
from jaxvision.ops import boxes as box_ops
from jaxvision.ops.images import normalize

CODINGS = {  # (boxes to numbers, numbers to boxes, the box in the middle, from which the network's numbers count)
    "centre": (box_ops.xyxy_to_cxcywh, box_ops.cxcywh_to_xyxy, (0.5, 0.5, 0.5, 0.5)),
    "corners": (lambda boxes: boxes, lambda boxes: boxes, (0.25, 0.25, 0.75, 0.75)),
}


class ClassificationLocalization(nn.Module):
    """`logits` (B,K), and `box_numbers` (B,K,4), or (B,1,4) without `per_class`, in shares of the canvas, beside the trunk's maps.

    Both are linear in the last dense layer's features: a box may leave the picture. coding: of the numbers, see `CODINGS`.
    """

    trunk: nn.Module
    num_classes: int
    per_class: bool
    coding: str
    level: str | None
    cells: int
    fc: Sequence[int]
    dropout: float
    mean: Sequence[float]
    std: Sequence[float]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        maps = self.trunk(normalize(batch["image"], batch["image_size"], self.mean, self.std), train)
        x = dense_features(maps, self.level, self.cells, self.fc, self.dropout, train, self.dtype)
        boxes = self.num_classes if self.per_class else 1
        numbers = nn.Dense(4 * boxes, kernel_init=nn.initializers.zeros, name="box")(x).reshape(-1, boxes, 4)
        numbers += jnp.array(CODINGS[self.coding][2])
        return {**maps, "logits": nn.Dense(self.num_classes, name="head")(x), "box_numbers": numbers}


def losses(
    outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, coding: str, box_loss: Callable
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """`class`, the cross-entropy of the label, and `box`, of the label's box alone, against the object of the label that it is
    nearest to; an image without one counts only for the first."""
    height, width = batch["image"].shape[1:3]
    numbers, label, real = outputs["box_numbers"], batch["label"], real_rows(batch)
    row = label if numbers.shape[1] > 1 else jnp.zeros_like(label)
    own = jnp.take_along_axis(numbers, row[:, None, None], 1)
    targets = CODINGS[coding][0](batch["boxes"] / jnp.array([width, height] * 2, jnp.float32))
    objects = batch["valid"] & (batch["classes"] == label[:, None] + 1) & spread(real, batch["valid"].shape)
    nearest = jnp.where(objects, abs(own - targets).sum(-1), jnp.inf).argmin(1)
    target = jnp.take_along_axis(targets, nearest[:, None, None], 1)
    return {
        "class": softmax_cross_entropy(outputs["logits"], label, real),
        "box": box_loss(own[:, 0], target[:, 0], objects.any(1)),
    }


def predict(outputs, batch, *, coding: str) -> dict[str, jax.Array]:
    """`probabilities` (B,K) and `class_boxes` (B,K,4), the box that each class would have, clipped to the picture."""
    height, width = batch["image"].shape[1:3]
    boxes = CODINGS[coding][1](outputs["box_numbers"]) * jnp.array([width, height] * 2, jnp.float32)
    boxes = jnp.concatenate([boxes[..., :2], jnp.maximum(boxes[..., :2], boxes[..., 2:])], -1)
    boxes = jnp.broadcast_to(boxes, (*outputs["logits"].shape, 4))
    return {
        "probabilities": jax.nn.softmax(outputs["logits"]),
        "class_boxes": jax.vmap(box_ops.clip)(boxes, batch["image_size"]),
    }


def classification_localization(
    num_classes: int,
    backbone: str | Mapping[str, Any] = "vgg",
    per_class: bool = True,
    loss: str = "l2",
    beta: float = 0.05,
    coding: str = "centre",
    level: str | None = None,
    cells: int = 7,
    fc: Sequence[int] = (4096, 4096),
    dropout: float = 0.5,
    norm: str | None = None,
    axis: str | None = None,
    remat: bool | None = None,
    dtype: Any = jnp.float32,
) -> Architecture:
    """A classifier that says where its object is; the defaults are VGG16's with a box for each class.

    backbone: any registered classifier, whose trunk is taken: its name, or `name` and options. norm, axis, remat, dtype: of
      the trunk, before the backbone's own: norm="frozen" with `optimizer.trainable` "^(?!trunk)" freezes it wholly.
    per_class: a box for each class, of which only the label's learns; otherwise one for all.
    loss: "l2", "l1" or "smooth_l1" (quadratic below `beta`) of the box's four numbers in shares of the canvas, so that its
      weight, by default 10, does not depend on the picture's size. coding: "centre" (x, y, width, height) or "corners".
    level, cells, fc, dropout: the map whose means over cells x cells are flattened (None: the trunk's last), the dense layers
      on it and their dropout. On VGG and AlexNet they are the classifier's own fc6 and fc7.
    Raises ValueError for a backbone, loss or coding that cannot be meant.
    """
    if coding not in CODINGS:
        raise ValueError(f"coding {coding!r} is not one of {', '.join(CODINGS)}.")
    trunk, mean, std = classifier_trunk(backbone, norm=norm, axis=axis, remat=remat, dtype=dtype)
    model = ClassificationLocalization(
        trunk, num_classes, per_class, coding, level, cells, tuple(fc), dropout, tuple(mean), tuple(std), dtype
    )
    return Architecture(
        "classification_localization",
        model,
        functools.partial(losses, coding=coding, box_loss=regression_loss(loss, beta)),
        functools.partial(predict, coding=coding),
        "localization",
        {"box": 10.0},
    )
