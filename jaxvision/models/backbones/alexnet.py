"""AlexNet in the form of Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.

Five convolutions of 64 to 384 channels, no local response normalisation, and two dense layers with dropout before them,
as torchvision has it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv, he_normal
from jaxvision.layers.geometry import Geometry
from jaxvision.models.backbones.classification import classifier, network_input
from jaxvision.ops.pool import adaptive_avg_pool, max_pool

WIDTHS = (64, 192, 384, 256, 256)
POOLED = (1, 2, 5)  # convolutions with a pool behind them


class AlexNet(nn.Module):
    """Images (B,H,W,3), normalised, to the maps of the five convolutions after ReLU {"c1": stride 4, "c2": 8, others: 16} and
    "pool5", of stride 32.

    pad: of the first convolution (FCN's is 100). ceil_mode: of the pools, as in Caffe.
    """

    widths: Sequence[int] = WIDTHS
    dtype: Any = jnp.float32
    pad: int = 2
    ceil_mode: bool = False
    smallest = 63  # pixels of a side that leave a cell of pool5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        maps = {}
        for i, (width, (kernel, stride, pad)) in enumerate(zip(self.widths, self.layers()), 1):
            x = nn.relu(Conv(width, kernel, stride, pad, dtype=self.dtype, name=f"conv{i}")(x))
            x = maps[f"c{i}"] = self.perturb(f"c{i}", x)
            if i in POOLED:
                x = self.pool(x, i)
        return {**maps, "pool5": x}

    def pool(self, x: jax.Array, layer: int) -> jax.Array:
        """What is behind that convolution, counted from 1, where it has a pool."""
        return max_pool(x, 3, 2, ceil_mode=self.ceil_mode)

    def layers(self) -> list[tuple[int, int, int]]:
        """Kernel, stride and padding of the convolutions."""
        return [(11, 4, self.pad), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1)]

    def geometry(self) -> dict[str, Geometry]:
        """Where the cells of each map lie in the image."""
        here, maps = Geometry(), {}
        for i, layer in enumerate(self.layers(), 1):
            here = maps[f"c{i}"] = here.conv(*layer)
            here = here.conv(3, 2, 0) if i in POOLED else here
        return {**maps, "pool5": here}


class ZF(AlexNet):
    """Zeiler & Fergus' network ("Visualizing and Understanding Convolutional Networks", ECCV 2014) as SPP-net's ZF-5: an
    AlexNet whose first kernels are smaller and denser, its last maps of stride 16 too. Without response normalisation."""

    widths: Sequence[int] = (96, 256, 384, 384, 256)
    pad: int = 3

    def layers(self) -> list[tuple[int, int, int]]:
        return [(7, 2, self.pad), (5, 2, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1)]


class AlexNetClassifier(nn.Module):
    """`logits` (B, num_classes) from c5 pooled to 6x6, beside the trunk's maps. Raises ValueError for images too small."""

    trunk: AlexNet
    num_classes: int
    fc: int = 4096
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        maps = self.trunk(network_input(batch, self.trunk.smallest), train)
        x = adaptive_avg_pool(maps["pool5"], 6)
        x = x.reshape(len(x), -1)
        for name in ("fc6", "fc7"):
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = nn.relu(nn.Dense(self.fc, kernel_init=he_normal, dtype=self.dtype, name=name)(x))
        return {**maps, "logits": nn.Dense(self.num_classes, name="head")(x.astype(jnp.float32))}


def alexnet(
    num_classes: int,
    widths: Sequence[int] = WIDTHS,
    fc: int = 4096,
    dropout: float = 0.5,
    dtype: Any = jnp.float32,
    loss: str | None = None,
    multi_label: bool = False,
) -> Architecture:
    """An AlexNet classifier; widths: of the five convolutions, fc: of the two dense layers. loss, multi_label: see `classifier`."""
    model = AlexNetClassifier(AlexNet(tuple(widths), dtype), num_classes, fc, dropout, dtype)
    return classifier("alexnet", model, loss, multi_label)
