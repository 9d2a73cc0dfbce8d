"""Lite R-ASPP on MobileNetV3 (Howard et al., "Searching for MobileNetV3", ICCV 2019), as torchvision builds it.

Departures from the paper: the gate is the mean of the whole image, not of windows of 49 x 49, and the finer map is c3 of
`MobileNetV3`, the first of stride 8.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.aspp import covered_mean
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import network_input
from jaxvision.models.segmentation.objective import segmenter
from jaxvision.models.segmentation.segmenter import (
    covered_cells,
    dilated_trunk,
)
from jaxvision.ops.resize import resize


class LRASPP(nn.Module):
    """`logits` (B,H,W,num_classes) at the size of the canvas, upsampled bilinearly, beside the trunk's maps.

    The last map, 1x1 to `features` channels, is gated by its mean over the image and scored, the scores are upsampled and
    those of c3 added. Scores are upsampled rather than features: both layers are linear, so that is the same and cheaper.
    """

    trunk: nn.Module
    num_classes: int
    features: int
    norm: str
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x = network_input(batch)
        maps, canvas = self.trunk(x, train), x.shape[1:3]
        low, high = maps["c3"], maps["final"]
        covered = covered_cells(batch["image_size"], canvas, high.shape[1:3])
        gate = Conv(self.features, 1, bias=False, dtype=self.dtype, name="gate")(covered_mean(high, covered))
        y = Conv(self.features, 1, bias=self.norm == "none", dtype=self.dtype, name="conv")(high)
        y = nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name="conv_norm")(y, train)) * nn.sigmoid(gate)
        scores = Conv(self.num_classes, 1, name="high")(y.astype(jnp.float32))
        scores = resize(scores, low.shape[1:3]) + Conv(self.num_classes, 1, name="low")(low.astype(jnp.float32))
        return {**maps, "logits": resize(scores, canvas)}


def lraspp(
    num_classes: int,
    backbone: str = "mobilenet_v3_large",
    output_stride: int | None = None,
    width: float = 1.0,
    stem_stride: int = 2,
    features: int = 128,
    loss: Mapping[str, Any] | None = None,
    norm: str = "batch",
    momentum: float = 0.99,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """Lite R-ASPP; the defaults are torchvision's lraspp_mobilenet_v3_large.

    backbone: "mobilenet_v3_large" or "mobilenet_v3_small"; width, stem_stride, momentum: see `MobileNetV3`.
    output_stride: 16 or 32, of the last map at a stem of stride 2; None is 16.
    """
    if not backbone.startswith("mobilenet_v3"):
        raise ValueError(f"Lite R-ASPP is built on a MobileNetV3, not on {backbone!r}.")
    common = {"norm": norm, "axis": axis, "dtype": dtype}
    options = {"width": width, "stem_stride": stem_stride, "momentum": momentum, "remat": remat}
    trunk, _ = dilated_trunk(backbone, output_stride, **options, **common)
    model = LRASPP(trunk, num_classes, features, **common)
    return segmenter("lraspp", model, loss)
