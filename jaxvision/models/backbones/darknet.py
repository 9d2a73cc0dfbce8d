"""The convolutions of YOLO and of Fast YOLO (Redmon et al., "You Only Look Once", CVPR 2016, figure 3), and a classifier."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import classifier
from jaxvision.ops.images import normalize
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


class DarknetClassifier(nn.Module):
    """`logits` (B, num_classes) by a connected layer on the means of the last map, beside the trunk's maps."""

    trunk: Darknet
    num_classes: int
    mean: Sequence[float]
    std: Sequence[float]

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        maps = self.trunk(normalize(batch["image"], batch["image_size"], self.mean, self.std), train)
        x = maps[f"c{len(maps)}"].astype(jnp.float32).mean((1, 2))
        return {**maps, "logits": nn.Dense(self.num_classes, name="head")(x)}


def darknet(
    num_classes: int,
    stages: Sequence[Sequence[tuple[int, int, int]]] = (*YOLO[0][:4], YOLO[0][4][:4]),
    pools: int = 4,
    mean: Sequence[float] = (0.5,) * 3,
    std: Sequence[float] = (0.5,) * 3,
    norm: str = "none",
    axis: str | None = None,
    dtype: Any = jnp.float32,
    loss: str | None = None,
    multi_label: bool = False,
) -> Architecture:
    """The classifier of 224 x 224 pixels from which the paper takes YOLO's first 20 convolutions.

    stages, pools, norm: see `Darknet`. mean, std: of the colours in 0..1, the same as YOLO's. A run of it serves YOLO as
    `init=(("^trunk/stage([1-4]_|5_conv[0-3])", DIRECTORY),)`.
    """
    trunk = Darknet(tuple(tuple(map(tuple, stage)) for stage in stages), pools, norm, axis, dtype)
    model = DarknetClassifier(trunk, num_classes, tuple(mean), tuple(std))
    return classifier("darknet", model, loss, multi_label)
