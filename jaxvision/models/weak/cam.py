"""Class activation maps (Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016).

A classifier whose last map is averaged over all places and then scored by one linear layer. The same layer applied at each
place tells where the evidence of a class is: the class's map, whose mean plus a bias is its score.

Departures: images are RGB by ImageNet's mean and deviation, not BGR less the mean; AlexNet-GAP has the 13 x 13 cells of the
paper's text, where the published network pools once more to 11 x 11; trunks are those of `jaxvision.models.backbones`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.explain.cam import cam as class_maps
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import classifier
from jaxvision.models.weak.trunks import Form, open_form, read_map

FORMS = {
    "vgg16": Form({"name": "vgg", "last_pool": False}, "c5", (1024,), 2),
    "googlenet": Form({"name": "googlenet", "aux": False, "last": "4e"}, "c4", (1024,)),
    "alexnet": Form({"name": "alexnet"}, "c5", (512, 512), 2),
}


class CAM(nn.Module):
    """`logits` (B,K) and `class_maps` (B,h,w,K), beside the trunk's maps and `gap` (B,h,w,D), the map that is averaged.

    logits = mean of class_maps over all places + bias. mean, std: of the colours. layer: the trunk's map that is read. convs:
    channels of 3x3 convolutions behind it, each with its norm and ReLU.
    """

    trunk: nn.Module
    mean: Sequence[float]
    std: Sequence[float]
    num_classes: int
    layer: str
    convs: Sequence[int]
    groups: int
    dropout: float
    norm: str = "none"
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        maps, x = read_map(self.trunk, self.layer, batch, train, self.mean, self.std)
        for i, width in enumerate(self.convs):
            bias = self.norm == "none"
            x = Conv(width, 3, groups=self.groups, bias=bias, dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"conv{i}_norm")(x, train))
        x = self.perturb("gap", x).astype(jnp.float32)
        pooled = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
        head = nn.Dense(self.num_classes, name="head")
        logits = head(pooled)
        kernel = head.variables["params"]["kernel"]
        return {**maps, "gap": x, "class_maps": class_maps(x, kernel), "logits": logits}


def map_predict(outputs, batch, *, classes: Callable):
    """{"probabilities": (B,K), "class_maps": (B,h,w,K), "map_extent": (B,2), how much of their grid the image covers}.

    classes: the predictions of a classifier without maps.
    """
    grid = jnp.array(outputs["class_maps"].shape[1:3], jnp.float32)
    extent = batch["image_size"] * grid / jnp.array(batch["image"].shape[1:3], jnp.float32)
    return {**classes(outputs, batch), "class_maps": outputs["class_maps"], "map_extent": extent}


def with_maps(architecture: Architecture) -> Architecture:
    """A classifier whose predictions hold the maps of its classes too; of images with one label the maps are scored."""
    task = architecture.task if architecture.task == "multi_label" else "map_localization"
    predict = functools.partial(map_predict, classes=architecture.predict)
    return dataclasses.replace(architecture, predict=predict, task=task)


def cam(
    num_classes: int,
    backbone: str | Mapping[str, Any] = "vgg16",
    layer: str | None = None,
    convs: Sequence[int] | None = None,
    groups: int | None = None,
    dropout: float = 0.5,
    norm: str = "none",
    axis: str | None = None,
    remat: bool | None = None,
    dtype: Any = jnp.float32,
    loss: str | None = None,
    multi_label: bool = False,
) -> Architecture:
    """A classifier that averages its last map, and so has a map for each class.

    backbone: "vgg16", "googlenet" or "alexnet" as published, or any registered classifier, which has no convolutions behind
      its map c5 unless the following say so: its name, or `name` and options, see `classifier_trunk`.
    layer: the map that is read; what the trunk has behind it is computed for nothing, so leave it out by the backbone's options.
    convs, groups: channels and groups of 3x3 convolutions behind it. dropout: of the averages. norm: behind `convs`.
    axis, remat, dtype: the trunk's too. loss, multi_label: see `classifier`.
    Raises ValueError for another backbone, option or loss, and, when it sees images, another layer.
    """
    form, taken = open_form(FORMS, backbone, axis=axis, remat=remat, dtype=dtype)
    model = CAM(
        *taken,
        num_classes,
        layer or form.layer,
        form.convs if convs is None else tuple(convs),
        groups or form.groups,
        dropout,
        norm,
        axis,
        dtype,
    )
    return with_maps(classifier("cam", model, loss, multi_label))
