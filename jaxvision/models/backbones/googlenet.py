"""GoogLeNet (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015), as a trunk and as a classifier.

Departures, all torchvision's: batch normalisation instead of local response normalisation, a 3x3 convolution where the
paper has 5x5, dropout 0.2 before the last layer for 0.4, and auxiliary classifiers that average their maps to 4x4 cells.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv, he_normal
from jaxvision.layers.geometry import Geometry
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    classifier,
    network_input,
)
from jaxvision.ops.pool import adaptive_avg_pool, max_pool

# Channels of the branches: 1x1; 1x1 then 3x3; 1x1 then 3x3; pool then 1x1.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
KEPT = {"3b": "c3", "4a": "c4a", "4d": "c4d", "4e": "c4", "5b": "c5"}
POOLS = {"3b": 3, "4e": 2}  # windows of the pools after them, stride 2
SMALLEST = 15


def scaled(features: int, width: float) -> int:
    return max(1, round(features * width))


class ConvNorm(nn.Module):
    """Convolution, normalisation, ReLU."""

    features: int
    kernel: int
    stride: int
    norm: str
    axis: str | None
    dtype: Any
    pad: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        bias = self.norm == "none"
        x = Conv(self.features, self.kernel, self.stride, self.pad, bias=bias, dtype=self.dtype, name="conv")(x)
        return nn.relu(Norm(self.norm, eps=1e-3, axis=self.axis, dtype=self.dtype, name="norm")(x, train))


class Inception(nn.Module):
    """Four branches side by side; widths as in `INCEPTIONS`."""

    widths: Sequence[int]
    norm: str
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def conv(x, name, features, kernel):
            return ConvNorm(features, kernel, 1, self.norm, self.axis, self.dtype, name=name)(x, train)

        single, reduced2, wide2, reduced3, wide3, pooled = self.widths
        branches = [
            conv(x, "branch1", single, 1),
            conv(conv(x, "branch2_0", reduced2, 1), "branch2_1", wide2, 3),
            conv(conv(x, "branch3_0", reduced3, 1), "branch3_1", wide3, 3),
            conv(max_pool(x, 3, 1, 1), "branch4_1", pooled, 1),
        ]
        return jnp.concatenate(branches, -1)


class GoogLeNet(nn.Module):
    """Images (B,H,W,3), normalised, to maps {"c1": stride 2, "c2": 4, "c3": 8, "c4": 16, "c5": 32}.

    Also "c4a" and "c4d" of stride 16, after inceptions 4a and 4d, which the auxiliary classifiers read. width: factor of
    all channels. pad: of the first convolution. last: the inception behind which the network ends, and its maps with it.
    """

    width: float = 1.0
    norm: str = "batch"
    axis: str | None = None
    dtype: Any = jnp.float32
    pad: int = 3
    last: str = "5b"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        maps = {}

        def keep(name, x):
            maps[name] = self.perturb(name, x)
            return maps[name]

        def conv(x, name, features, kernel, stride, pad=None):
            features = scaled(features, self.width)
            return ConvNorm(features, kernel, stride, self.norm, self.axis, self.dtype, pad, name=name)(x, train)

        x = keep("c1", conv(x, "conv1", 64, 7, 2, self.pad))
        x = conv(max_pool(x, 3, 2, ceil_mode=True), "conv2", 64, 1, 1)
        x = keep("c2", conv(x, "conv3", 192, 3, 1))
        x = max_pool(x, 3, 2, ceil_mode=True)
        for name, widths in INCEPTIONS.items():
            widths = tuple(scaled(features, self.width) for features in widths)
            x = Inception(widths, self.norm, self.axis, self.dtype, name=f"inception{name}")(x, train)
            if name in KEPT:
                x = keep(KEPT[name], x)
            if name == self.last:
                break
            if name in POOLS:
                x = max_pool(x, POOLS[name], 2, ceil_mode=True)
        return maps

    def geometry(self) -> dict[str, Geometry]:
        """Where the cells of the maps c1..c5 lie in the image."""
        first = Geometry().conv(7, 2, self.pad)
        second = first.conv(3, 2, 0)
        third = second.conv(3, 2, 0)
        fourth = third.conv(POOLS["3b"], 2, 0)
        return {"c1": first, "c2": second, "c3": third, "c4": fourth, "c5": fourth.conv(POOLS["4e"], 2, 0)}


class Auxiliary(nn.Module):
    """Scores (B, num_classes) from a map in the middle: 4x4 means, 1x1 convolution, two dense layers."""

    num_classes: int
    width: float
    dropout: float
    norm: str
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = adaptive_avg_pool(x, 4)
        x = ConvNorm(scaled(128, self.width), 1, 1, self.norm, self.axis, self.dtype, name="conv")(x, train)
        x = nn.Dense(scaled(1024, self.width), kernel_init=he_normal, dtype=self.dtype, name="fc1")(
            x.reshape(len(x), -1)
        )
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
        return nn.Dense(self.num_classes, name="head")(x.astype(jnp.float32))


class GoogLeNetClassifier(nn.Module):
    """`logits` (B, num_classes), beside the trunk's maps, and with `aux` also `aux1_logits` and `aux2_logits`.

    transform_input: images normalised by mean and deviation 0.5, as torchvision's published weights want them. Raises
    ValueError for images below 15 pixels.
    """

    trunk: GoogLeNet
    num_classes: int
    dropout: float = 0.2
    aux_dropout: float = 0.7
    transform_input: bool = False
    aux: bool = True

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x = network_input(batch, SMALLEST)
        if self.transform_input:
            mean, std = jnp.array(IMAGENET_MEAN), jnp.array(IMAGENET_STD)
            x = x * (std / 0.5) + (mean - 0.5) / 0.5
        maps = self.trunk(x, train)
        trunk, outputs = self.trunk, {}
        options = (self.num_classes, trunk.width, self.aux_dropout, trunk.norm, trunk.axis, trunk.dtype)
        for name, read in (("aux1", "c4a"), ("aux2", "c4d")) if self.aux else ():
            outputs[f"{name}_logits"] = Auxiliary(*options, name=name)(maps[read], train)
        pooled = maps["c5"].astype(jnp.float32).mean((1, 2))
        pooled = nn.Dropout(self.dropout, deterministic=not train)(pooled)
        return {**maps, **outputs, "logits": nn.Dense(self.num_classes, name="head")(pooled)}


def googlenet(
    num_classes: int,
    width: float = 1.0,
    dropout: float = 0.2,
    aux_dropout: float = 0.7,
    transform_input: bool = False,
    aux: bool = True,
    norm: str = "batch",
    axis: str | None = None,
    dtype: Any = jnp.float32,
    loss: str | None = None,
    multi_label: bool = False,
) -> Architecture:
    """A GoogLeNet classifier; the auxiliary losses weigh 0.3 each, as published. aux: whether it has those classifiers.

    loss, multi_label: of all its classifiers, see `classifier`.
    """
    trunk = GoogLeNet(width, norm, axis, dtype)
    model = GoogLeNetClassifier(trunk, num_classes, dropout, aux_dropout, transform_input, aux)
    return classifier("googlenet", model, loss, multi_label, {"aux1": 0.3, "aux2": 0.3} if aux else {})
