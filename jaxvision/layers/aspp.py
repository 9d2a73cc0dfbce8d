"""Atrous spatial pyramid pooling (Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.layers.separable import SeparableConv


class ASPP(nn.Module):
    """x (B,h,w,C) to (B,h,w,features): a 1x1 convolution, a 3x3 at each of the rates, and the image's mean, side by side,
    then a 1x1 over all of them and dropout.

    separable: None, or what lies between the halves of a separable 3x3 convolution (see `SeparableConv`).
    covered (B,h,w): the cells over which the mean is taken. On an image that fills its canvas that is torchvision's mean;
    a smaller one is not mixed with the padding around it.
    """

    features: int = 256
    rates: Sequence[int] = (12, 24, 36)
    dropout: float = 0.5
    norm: str = "batch"
    axis: str | None = None
    dtype: Any = jnp.float32
    separable: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, covered: jax.Array, train: bool = False) -> jax.Array:
        def conv(x, name, kernel=1, dilation=1):
            bias = self.norm == "none"
            x = Conv(self.features, kernel, dilation=dilation, bias=bias, dtype=self.dtype, name=name)(x)
            return nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"{name}_norm")(x, train))

        def atrous(x, name, rate):
            if self.separable is None:
                return conv(x, name, 3, rate)
            common = dict(norm=self.norm, axis=self.axis, dtype=self.dtype)
            return SeparableConv(self.features, 1, rate, self.separable, **common, name=name)(x, train)

        branches = [conv(x, "conv0")]
        branches += [atrous(x, f"conv{i}", rate) for i, rate in enumerate(self.rates, 1)]
        pooled = conv(covered_mean(x, covered), "pool")
        branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        x = conv(jnp.concatenate(branches, -1), "project")
        return nn.Dropout(self.dropout, deterministic=not train)(x)


def covered_mean(x: jax.Array, covered: jax.Array) -> jax.Array:
    """The mean (B,1,1,C), float32, of x (B,h,w,C) over the cells that are covered (B,h,w); 0 where none is."""
    total = jnp.where(covered[..., None], x, 0).sum((1, 2), keepdims=True, dtype=jnp.float32)
    return total / jnp.maximum(covered.sum((1, 2)), 1)[:, None, None, None]
