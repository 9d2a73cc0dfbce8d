"""A separable convolution: each channel by a kernel of its own, then all of them mixed pixel by pixel."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm


class SeparableConv(nn.Module):
    """x (B,H,W,I) to (B,H',W',features): a depthwise 3x3 convolution and a 1x1 one, each with its norm.

    between: what lies between the two: "norm_relu", "norm" or "none". activate: whether a ReLU follows the second norm.
    """

    features: int
    stride: int = 1
    dilation: int = 1
    between: str = "norm_relu"
    activate: bool = True
    norm: str = "batch"
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        channels = x.shape[-1]
        bias = self.norm == "none"
        common = dict(axis=self.axis, dtype=self.dtype)
        own = dict(dilation=self.dilation, groups=channels, bias=bias and self.between != "none", dtype=self.dtype)
        x = Conv(channels, 3, self.stride, **own, name="depthwise")(x)
        if self.between != "none":
            x = Norm(self.norm, **common, name="depthwise_norm")(x, train)
        x = nn.relu(x) if self.between == "norm_relu" else x
        x = Conv(self.features, 1, bias=bias, dtype=self.dtype, name="pointwise")(x)
        x = Norm(self.norm, **common, name="pointwise_norm")(x, train)
        return nn.relu(x) if self.activate else x
