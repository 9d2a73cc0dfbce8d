"""Segmentation at full resolution: a chain of 3x3 convolutions, none of which makes the map smaller.

The second of the three ideas that lead to FCN (the sliding window is the first): nothing is computed twice, but every layer
pays for every pixel, and what a score sees grows by two pixels a layer only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import network_input
from jaxvision.models.segmentation.objective import segmenter


class FullResolution(nn.Module):
    """`logits` (B,H,W,num_classes), beside the maps c1, c2, ... of all convolutions, each of the canvas's size."""

    num_classes: int
    widths: Sequence[int]
    norm: str
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x, maps = network_input(batch), {}
        for i, width in enumerate(self.widths, 1):
            x = Conv(width, bias=self.norm == "none", dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"norm{i}")(x, train))
            x = maps[f"c{i}"] = self.perturb(f"c{i}", x)
        return {**maps, "logits": Conv(self.num_classes, 1, name="logits")(x.astype(jnp.float32))}


def full_resolution(
    num_classes: int,
    widths: Sequence[int] = (32,) * 8,
    loss: Mapping[str, Any] | None = None,
    norm: str = "batch",
    axis: str | None = None,
    dtype: Any = jnp.float32,
) -> Architecture:
    """A network without downsampling. widths: of its convolutions; with n of them a score sees 2 n + 1 pixels a side."""
    model = FullResolution(num_classes, tuple(widths), norm, axis, dtype)
    return segmenter("full_resolution", model, loss)
