"""DeepLabv3+ (Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation", ECCV 2018).

DeepLabv3's ASPP, and a decoder that joins it with the trunk's map of stride 4. Maps are enlarged with their corners aligned,
as in the authors' code: canvases of a multiple of the output stride and one pixel, such as 513, suit that best.

Departures: running statistics keep 0.9 of themselves in a step, not 0.9997; and ResNets have torchvision's strides and stem.
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
from jaxvision.layers.separable import SeparableConv
from jaxvision.models.backbones.classification import network_input
from jaxvision.models.segmentation.objective import segmenter
from jaxvision.models.segmentation.segmenter import (
    covered_cells,
    dilated_trunk,
)
from jaxvision.ops.resize import resize


class DeepLabV3Plus(nn.Module):
    """`logits` (B,H,W,num_classes) at the size of the canvas, beside the trunk's maps, "pyramid" and "decoder".

    level, low_level: the names of the trunk's maps that ASPP and the decoder read. separable: None, or what lies between the
    halves of each separable 3x3 convolution. aspp_conv: a 3x3 convolution more, behind ASPP. See `deeplabv3plus`.
    """

    trunk: nn.Module
    num_classes: int
    level: str
    low_level: str
    features: int = 256
    low_features: int = 48
    rates: Sequence[int] = (6, 12, 18)
    separable: str | None = "norm_relu"
    aspp_conv: bool = False
    decoder_convs: int = 2
    align_corners: bool = True
    dropout: float = 0.1
    norm: str = "batch"
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        common = dict(norm=self.norm, axis=self.axis, dtype=self.dtype)

        def conv(x, features, kernel, name):
            if kernel == 3 and self.separable is not None:
                return SeparableConv(features, between=self.separable, **common, name=name)(x, train)
            x = Conv(features, kernel, bias=self.norm == "none", dtype=self.dtype, name=name)(x)
            return nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"{name}_norm")(x, train))

        def enlarge(x, size):
            return resize(x, size, align_corners=self.align_corners)

        x = network_input(batch)
        maps, canvas = self.trunk(x, train), x.shape[1:3]
        deep, low = maps[self.level], maps[self.low_level]
        covered = covered_cells(batch["image_size"], canvas, deep.shape[1:3])
        aspp = ASPP(self.features, self.rates, self.dropout, **common, separable=self.separable, name="aspp")
        y = aspp(deep, covered, train)
        y = conv(y, self.features, 3, "aspp_conv") if self.aspp_conv else y
        y = maps["pyramid"] = self.perturb("pyramid", y)
        y = jnp.concatenate([enlarge(y, low.shape[1:3]), conv(low, self.low_features, 1, "low")], -1)
        for i in range(1, self.decoder_convs + 1):
            y = conv(y, self.features, 3, f"decoder{i}")
        y = maps["decoder"] = self.perturb("decoder", y)
        logits = Conv(self.num_classes, 1, kernel_init=nn.initializers.truncated_normal(0.01), name="logits")
        return {**maps, "logits": enlarge(logits(y.astype(jnp.float32)), canvas)}


def deeplabv3plus(
    num_classes: int,
    backbone: str = "xception65",
    output_stride: int = 16,
    depths: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    stem: str | None = None,
    stem_width: int | None = None,
    width: float | None = None,
    middle: int | None = None,
    features: int = 256,
    low_features: int = 48,
    rates: Sequence[int] | None = None,
    separable: bool = True,
    depthwise_norm: bool = True,
    aspp_conv: bool = False,
    decoder_convs: int = 2,
    align_corners: bool = True,
    dropout: float = 0.1,
    loss: Mapping[str, Any] | None = None,
    norm: str = "batch",
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """DeepLabv3+; the defaults are the paper's on Xception-65, but for its trunk's eps of 1e-3 (norm="batch:1e-3" has it).

    backbone: "xception41", "xception65", "xception71", "resnet50", "resnet101", ... or "mobilenet_v3_large"; depths, widths,
    stem, stem_width override parts of a ResNet, `middle` of an Xception, `width` of an Xception or MobileNetV3.
    output_stride: 8, 16 or 32, of the map that ASPP sees. rates: of ASPP, in its cells; None is 6, 12, 18 at 16, and twice
    that at 8. features: of ASPP and decoder. low_features: to which the finer map is reduced. separable: whether 3x3
    convolutions of ASPP and decoder are, and depthwise_norm, whether a norm and a ReLU follow their depthwise halves.
    decoder_convs: 3x3 convolutions of the decoder. separable=True, depthwise_norm=False, aspp_conv=True, decoder_convs=1 is
    the network of segmentation_models.pytorch. Raises ValueError for an unknown trunk, stride or option of another kind.
    """
    options = {
        "depths": depths,
        "widths": widths,
        "stem": stem,
        "stem_width": stem_width,
        "width": width,
        "middle": middle,
    }
    common = {"norm": norm, "axis": axis, "dtype": dtype}
    trunk, (level, _, low_level) = dilated_trunk(backbone, output_stride, remat=remat, **options, **common)
    rates = tuple(rates or (rate * 16 // output_stride for rate in (6, 12, 18)))
    between = ("norm_relu" if depthwise_norm else "none") if separable else None
    sizes = features, low_features, rates, between, aspp_conv, decoder_convs, align_corners, dropout
    model = DeepLabV3Plus(trunk, num_classes, level, low_level, *sizes, **common)
    return segmenter("deeplabv3plus", model, loss)
