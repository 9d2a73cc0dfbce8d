"""VGG (Simonyan & Zisserman, "Very Deep Convolutional Networks", ICLR 2015) as a trunk."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.layers.conv import Conv
from jaxvision.layers.geometry import Geometry
from jaxvision.layers.norm import Norm
from jaxvision.ops.pool import max_pool

VGG16 = ((2, 2, 3, 3, 3), (64, 128, 256, 512, 512))


class VGG(nn.Module):
    """Images (B,H,W,3), normalised, to maps {"c1": stride 2, ..., "c5": 32}: each block's output after its pool.

    pad: of the very first convolution (FCN's is 100). ceil_mode: of the pools, as in Caffe. norm: after each convolution.
    """

    depths: Sequence[int] = VGG16[0]
    widths: Sequence[int] = VGG16[1]
    pad: int = 1
    ceil_mode: bool = False
    norm: str = "none"
    axis: str | None = None
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        maps = {}
        block = nn.remat(_Block, static_argnums=(2,)) if self.remat else _Block
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths), 1):
            pad = self.pad if stage == 1 else 1
            x = block(depth, width, pad, self.norm, self.axis, self.dtype, name=f"block{stage}")(x, train)
            x = maps[f"c{stage}"] = self.perturb(f"c{stage}", max_pool(x, 2, 2, ceil_mode=self.ceil_mode))
        return maps

    def geometry(self) -> dict[str, Geometry]:
        """Where the cells of each map lie in the image."""
        here, maps = Geometry().conv(3, 1, self.pad), {}
        for stage, depth in enumerate(self.depths, 1):
            for _ in range(depth - (stage == 1)):
                here = here.conv(3, 1, 1)
            here = maps[f"c{stage}"] = here.conv(2, 2, 0)
        return maps


class _Block(nn.Module):
    """3x3 convolutions with ReLU; `pad` is the first one's."""

    depth: int
    width: int
    pad: int
    norm: str
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for i in range(self.depth):
            pad = self.pad if i == 0 else 1
            x = Conv(self.width, 3, padding=pad, bias=self.norm == "none", dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"norm{i}")(x, train))
        return x
