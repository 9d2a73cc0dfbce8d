"""ZFNet (Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, figure 3), a classifier.

AlexNet with smaller and denser first kernels, 7x7 at stride 2 and 5x5 at stride 2. At 224 pixels its maps have 110, 26, 13, 13
and 13 cells a side, and the last pool leaves 6 x 6.

Departures: contrast is normalised across channels with Krizhevsky's numbers, for the paper gives none; dropout is before
the dense layers rather than behind them; no filter is renormalised while training; RGB by ImageNet's mean and deviation
instead of the mean image; He initialisation.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.architecture import Architecture
from jaxvision.models.backbones.alexnet import AlexNet, AlexNetClassifier
from jaxvision.models.backbones.classification import classifier
from jaxvision.ops.response_norm import local_response_norm

WIDTHS = (96, 256, 384, 384, 256)


class ZFNet(AlexNet):
    """Images (B,H,W,3), normalised, to the maps of the five convolutions after ReLU {"c1": stride 2, "c2": 8, others: 16} and
    "pool5", of stride 32. contrast: whether responses are normalised behind the first two pools."""

    widths: Sequence[int] = WIDTHS
    pad: int = 1
    ceil_mode: bool = True
    contrast: bool = True
    smallest = 47

    def layers(self) -> list[tuple[int, int, int]]:
        return [(7, 2, self.pad), (5, 2, 0), (3, 1, 1), (3, 1, 1), (3, 1, 1)]

    def pool(self, x: jax.Array, layer: int) -> jax.Array:
        x = super().pool(x, layer)
        return local_response_norm(x) if self.contrast and layer < 3 else x


def zfnet(
    num_classes: int,
    widths: Sequence[int] = WIDTHS,
    fc: int = 4096,
    dropout: float = 0.5,
    contrast: bool = True,
    dtype: Any = jnp.float32,
    loss: str | None = None,
    multi_label: bool = False,
) -> Architecture:
    """A ZFNet classifier; widths: of the five convolutions, fc: of the two dense layers. contrast: see `ZFNet`. loss,
    multi_label: see `classifier`. Images have at least 47 pixels a side."""
    trunk = ZFNet(tuple(widths), dtype, contrast=contrast)
    return classifier("zfnet", AlexNetClassifier(trunk, num_classes, fc, dropout, dtype), loss, multi_label)
