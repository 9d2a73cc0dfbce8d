"""SqueezeNet (Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016), versions 1.0 and 1.1.

The head is a convolution whose maps are averaged, so it scores images of any size.

Departure: its scores begin near one. Where all of them begin below zero, the ReLU after them passes no gradient, and
nothing is ever learnt.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.models.backbones.classification import classifier, network_input
from jaxvision.ops.pool import max_pool

# version -> (channels and kernel of conv1, the layers that a pool follows, the smallest image)
VERSIONS = {"1_0": (96, 7, ("conv1", "fire4", "fire8"), 21), "1_1": (64, 3, ("conv1", "fire3", "fire5"), 17)}


class Fire(nn.Module):
    """A 1x1 convolution that squeezes, then 1x1 and 3x3 side by side that expand to eight times as many channels."""

    squeeze: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(Conv(self.squeeze, 1, dtype=self.dtype, name="squeeze")(x))
        sides = [Conv(4 * self.squeeze, k, dtype=self.dtype, name=f"expand{k}x{k}")(x) for k in (1, 3)]
        return nn.relu(jnp.concatenate(sides, -1))


class SqueezeNet(nn.Module):
    """Images (B,H,W,3), normalised, to the maps of conv1 and of fire 3, 5, 7, 9, each the last one of its width.

    Strides of c1..c5: 2, 4, 8, 8, 16 in version 1.0 and 2, 4, 8, 16, 16 in version 1.1. widths: of the squeezing layers.
    """

    version: str = "1_1"
    stem_width: int | None = None
    widths: Sequence[int] = (16, 32, 48, 64)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        stem, kernel, pooled, _ = VERSIONS[self.version]
        x = nn.relu(Conv(self.stem_width or stem, kernel, 2, 0, dtype=self.dtype, name="conv1")(x))
        x = self.perturb("c1", x)
        maps = {"c1": x}
        x = max_pool(x, 3, 2, ceil_mode=True)
        for i in range(2, 10):
            x = Fire(self.widths[i // 2 - 1], self.dtype, name=f"fire{i}")(x)
            if i % 2:
                x = maps[f"c{i // 2 + 1}"] = self.perturb(f"c{i // 2 + 1}", x)
            if f"fire{i}" in pooled:
                x = max_pool(x, 3, 2, ceil_mode=True)
        return maps


class SqueezeNetClassifier(nn.Module):
    """`logits` (B, num_classes), the means of a 1x1 convolution of c5 after ReLU, beside the trunk's maps."""

    trunk: SqueezeNet
    num_classes: int
    dropout: float = 0.5

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        maps = self.trunk(network_input(batch, VERSIONS[self.trunk.version][-1]), train)
        x = nn.Dropout(self.dropout, deterministic=not train)(maps["c5"].astype(jnp.float32))
        start = {"kernel_init": nn.initializers.normal(0.01), "bias_init": nn.initializers.ones}
        scores = nn.relu(Conv(self.num_classes, 1, **start, name="head")(x))
        return {**maps, "logits": scores.mean((1, 2))}


def squeezenet(
    num_classes: int,
    version: str = "1_1",
    stem_width: int | None = None,
    widths: Sequence[int] = (16, 32, 48, 64),
    dropout: float = 0.5,
    dtype: Any = jnp.float32,
    loss: str | None = None,
    multi_label: bool = False,
) -> Architecture:
    """A SqueezeNet classifier of version "1_0" or "1_1" (ValueError for another), which set the stem's width by default."""
    if version not in VERSIONS:
        raise ValueError(f"version {version!r} is not one of {', '.join(map(repr, VERSIONS))}.")
    model = SqueezeNetClassifier(SqueezeNet(version, stem_width, tuple(widths), dtype), num_classes, dropout)
    return classifier("squeezenet", model, loss, multi_label)
