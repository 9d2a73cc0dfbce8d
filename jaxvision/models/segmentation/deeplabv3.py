"""DeepLabv3 (Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017), as torchvision builds it.

Departures from the paper: no multi-grid, no image pyramid, and the rates 12, 24 and 36 of its output stride 8.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.aspp import ASPP
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.segmentation.fcn_resnet import FCNHead
from jaxvision.models.segmentation.objective import segmenter
from jaxvision.models.segmentation.segmenter import Segmenter, dilated_trunk


class DeepLabHead(nn.Module):
    """Scores (B,h,w,num_classes), float32, of a map (B,h,w,C): ASPP, a 3x3 convolution and a 1x1."""

    num_classes: int
    features: int = 256
    rates: Sequence[int] = (12, 24, 36)
    dropout: float = 0.5
    norm: str = "batch"
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, covered: jax.Array, train: bool = False) -> jax.Array:
        common = {"axis": self.axis, "dtype": self.dtype}
        x = ASPP(self.features, self.rates, self.dropout, self.norm, **common, name="aspp")(x, covered, train)
        x = Conv(self.features, bias=self.norm == "none", dtype=self.dtype, name="conv")(x)
        x = nn.relu(Norm(self.norm, **common, name="conv_norm")(x, train))
        return Conv(self.num_classes, 1, name="logits")(x.astype(jnp.float32))


def deeplabv3(
    num_classes: int,
    backbone: str = "resnet50",
    output_stride: int | None = None,
    aux: bool = False,
    depths: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    stem: str | None = None,
    stem_width: int | None = None,
    width: float | None = None,
    features: int = 256,
    rates: Sequence[int] = (12, 24, 36),
    dropout: float = 0.5,
    loss: Mapping[str, Any] | None = None,
    norm: str = "batch",
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """DeepLabv3; the defaults are torchvision's deeplabv3_resnet50.

    backbone: "resnet50", "resnet101", ... or "mobilenet_v3_large"; depths, widths, stem, stem_width override parts of a
    ResNet, `width` those of a MobileNetV3. output_stride: 8, 16 or 32, of the map that ASPP sees; None is 8 for a ResNet
    and 16, the least, for a MobileNetV3. rates, in cells of that map, features: of ASPP; they do not follow output_stride: at 16
    the paper has 6, 12, 18. aux: whether a second head, FCN's, scores c4 (MobileNetV3: c3), with half the weight in the loss.
    """
    options = {"depths": depths, "widths": widths, "stem": stem, "stem_width": stem_width, "width": width}
    common = {"norm": norm, "axis": axis, "dtype": dtype}
    trunk, (level, aux_level, _) = dilated_trunk(backbone, output_stride, remat=remat, **options, **common)
    head = DeepLabHead(num_classes, features, tuple(rates), dropout, **common)
    aux_head = FCNHead(num_classes, **common) if aux else None
    model = Segmenter(trunk, head, aux_head, level, aux_level)
    return segmenter("deeplabv3", model, loss, {"aux": 0.5} if aux else {})
