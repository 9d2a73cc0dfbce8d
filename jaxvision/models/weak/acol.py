"""Adversarial complementary learning (Zhang et al., "Adversarial Complementary Learning for Weakly Supervised Object
Localization", CVPR 2018).

Two heads of convolutions on one feature, each of which ends in a map for every class and scores by its mean. Where the
first head's map of the class is high, the feature is erased for the second, which must find other parts of the object. A
class's map is the maximum of both, each brought to 0..1.

As in the authors' code, the feature is averaged over 3 x 3 cells before the heads. Departures: RGB by ImageNet's mean and
deviation; at test the class that the first head predicts is erased for all maps, where their script is given the label.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import classifier
from jaxvision.models.weak.cam import with_maps
from jaxvision.models.weak.trunks import Form, open_form, read_map
from jaxvision.ops.pool import avg_pool

FORMS = {
    "vgg16": Form({"name": "vgg", "window": 3, "flat": 2}),
    "googlenet": Form({"name": "googlenet", "aux": False, "last": "4e"}, "c4"),
}
BRANCHES = ("erased", "plain", "one")


def to_unit_range(maps: jax.Array) -> jax.Array:
    """Maps (B,h,w,...), each channel from its least value to its greatest over the places as 0..1; a constant one is 0."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return jnp.where(high > low, (maps - low) / jnp.where(high > low, high - low, 1), 0)


class Head(nn.Module):
    """x (B,h,w,D) to a map of each class (B,h,w,K): two 3x3 convolutions with norm and ReLU, and one 1x1."""

    num_classes: int
    width: int
    norm: str
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for i in range(2):
            x = Conv(self.width, 3, bias=self.norm == "none", dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"conv{i}_norm")(x, train))
        return Conv(self.num_classes, 1, name="score")(x.astype(jnp.float32))


class ACoL(nn.Module):
    """`logits` (B,K) of the first head, `second_logits` of the second, and `class_maps` (B,h,w,K), the maximum of both heads'
    maps in 0..1; beside the trunk's maps, `shared` (B,h,w,D), `first_maps`, `second_maps`, and `erased` (B,h,w) bool.

    delta: cells whose value in the first head's map of the class, in 0..1, is that or more are erased. branches: "erased";
    "plain", both heads without erasing; or "one", the first alone. In training the class is the label, else the first head's
    best; no gradient passes through the mask. multi_label: an image has `labels`, else the classes that it more likely has
    than not, and its best; what is high in the map of any of them is erased.
    """

    trunk: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    layer: str
    width: int
    delta: float
    branches: str
    smooth: bool
    norm: str = "none"
    axis: str | None = None
    dtype: Any = jnp.float32
    multi_label: bool = False

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        maps, x = read_map(self.trunk, self.layer, batch, train, self.mean, self.std)
        x = self.perturb("shared", avg_pool(x, 3, 1, 1) if self.smooth else x)
        options = self.num_classes, self.width, self.norm, self.axis, self.dtype
        first = Head(*options, name="first")(x, train)
        outputs = {**maps, "shared": x, "first_maps": first, "logits": first.mean((1, 2))}
        fused = to_unit_range(first)
        if self.branches != "one":
            attention = jnp.where(self._classes(outputs["logits"], batch, train)[:, None, None], fused, 0).max(-1)
            erased = (attention >= self.delta) & (self.branches == "erased")
            second = Head(*options, name="second")(jnp.where(erased[..., None], 0, x), train)
            outputs |= {"erased": erased, "second_maps": second, "second_logits": second.mean((1, 2))}
            fused = jnp.maximum(fused, to_unit_range(second))
        return {**outputs, "class_maps": fused}

    def _classes(self, logits, batch, train):
        """(B,K) bool: the classes whose maps erase."""
        if self.multi_label and train:
            return batch["labels"]
        label = batch["label"] if train else logits.argmax(-1)
        best = jax.nn.one_hot(label, logits.shape[-1], dtype=bool)
        return best | (logits > 0) if self.multi_label else best


def acol_losses(outputs, batch, *, classes: Callable):
    """{"class"} of the first head, and the same of the other, {"second"}, where there is one.

    classes: the losses of a classifier with one head.
    """
    terms = classes(outputs, batch)
    if "second_logits" in outputs:
        terms["second"] = classes({"logits": outputs["second_logits"]}, batch)["class"]
    return terms


def acol(
    num_classes: int,
    backbone: str | Mapping[str, Any] = "vgg16",
    layer: str | None = None,
    width: int = 1024,
    delta: float = 0.6,
    branches: str = "erased",
    smooth: bool = True,
    norm: str = "none",
    axis: str | None = None,
    remat: bool | None = None,
    dtype: Any = jnp.float32,
    loss: str | None = None,
    multi_label: bool = False,
) -> Architecture:
    """ACoL: a classifier of two heads, of which the second does not see what the first has found.

    backbone, layer: as in `cam`; "vgg16" and "googlenet" are those published, VGG16's pools 3x3, the last two of stride 1.
    width: of the heads' convolutions. delta: from there on of 0..1 cells are erased. branches: "erased", or the controls
      "plain", two heads without erasing, and "one". smooth: whether the feature is averaged over 3x3 cells first. norm: in the
      heads. axis, remat, dtype: the trunk's too. loss, multi_label: see `classifier`.
    Raises ValueError for another backbone, option, loss or branches, a delta outside 0..1, and, when it sees images, another
    layer.
    """
    if branches not in BRANCHES:
        raise ValueError(f"branches {branches!r} is not one of {', '.join(BRANCHES)}.")
    if not 0 < delta <= 1:
        raise ValueError(f"delta is {delta!r}; it is a share of 0..1 of a map's range, such as 0.6.")
    form, taken = open_form(FORMS, backbone, axis=axis, remat=remat, dtype=dtype)
    common = width, delta, branches, smooth, norm, axis, dtype, multi_label
    model = ACoL(*taken, num_classes, layer or form.layer, *common)
    architecture = with_maps(classifier("acol", model, loss, multi_label))
    losses = functools.partial(acol_losses, classes=architecture.losses)
    return dataclasses.replace(architecture, losses=losses)
