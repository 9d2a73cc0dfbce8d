"""The convolutions of YOLO and of Fast YOLO (Redmon et al., "You Only Look Once", CVPR 2016, figure 3)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.ops.pool import max_pool

# Each convolution is (channels, kernel, stride); so many of the first stages have a 2x2 pool behind them.
YOLO = (
    (
        ((64, 7, 2),),
        ((192, 3, 1),),
        ((128, 1, 1), (256, 3, 1), (256, 1, 1), (512, 3, 1)),
        (*((256, 1, 1), (512, 3, 1)) * 4, (512, 1, 1), (1024, 3, 1)),
        (*((512, 1, 1), (1024, 3, 1)) * 2, (1024, 3, 1), (1024, 3, 2)),
        ((1024, 3, 1), (1024, 3, 1)),
    ),
    4,
)
FAST_YOLO = (*(((width, 3, 1),) for width in (16, 32, 64, 128, 256, 512)), ((1024, 3, 1),) * 3), 6


def leaky(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, 0.1)


class Darknet(nn.Module):
    """Images (B,H,W,3) to maps {"c1", "c2", ...}, each stage's output behind its pool.

    stages: of each its convolutions, (channels, kernel, stride), rectified with a slope of 0.1 below zero. pools: so many of
    the first stages have a 2x2 pool. norm: behind each convolution; the paper has none.
    """

    stages: Sequence[Sequence[tuple[int, int, int]]] = YOLO[0]
    pools: int = YOLO[1]
    norm: str = "none"
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        maps = {}
        for stage, convolutions in enumerate(self.stages, 1):
            for i, (width, kernel, stride) in enumerate(convolutions):
                name = f"stage{stage}_conv{i}"
                x = Conv(width, kernel, stride, bias=self.norm == "none", dtype=self.dtype, name=name)(x)
                x = leaky(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"{name}_norm")(x, train))
            x = max_pool(x, 2) if stage <= self.pools else x
            x = maps[f"c{stage}"] = self.perturb(f"c{stage}", x)
        return maps
