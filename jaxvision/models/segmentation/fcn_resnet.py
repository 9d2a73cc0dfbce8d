"""FCN on a dilated ResNet (Long et al., CVPR 2015; Yu & Koltun, "Multi-Scale Context Aggregation", ICLR 2016), as
torchvision builds it: one 3x3 convolution and a score layer, without skips."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.segmentation.objective import segmenter
from jaxvision.models.segmentation.segmenter import Segmenter, dilated_trunk


class FCNHead(nn.Module):
    """Scores (B,h,w,num_classes), float32, of a map (B,h,w,C): 3x3 to a quarter of the channels, dropout, 1x1."""

    num_classes: int
    dropout: float = 0.1
    norm: str = "batch"
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, covered: jax.Array, train: bool = False) -> jax.Array:
        x = Conv(x.shape[-1] // 4, bias=self.norm == "none", dtype=self.dtype, name="conv")(x)
        x = nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name="conv_norm")(x, train))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Conv(self.num_classes, 1, name="logits")(x.astype(jnp.float32))


def fcn_resnet(
    num_classes: int,
    backbone: str = "resnet50",
    output_stride: int | None = None,
    aux: bool = False,
    depths: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    stem: str | None = None,
    stem_width: int | None = None,
    dropout: float = 0.1,
    loss: Mapping[str, Any] | None = None,
    norm: str = "batch",
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """FCN on a ResNet; the defaults are torchvision's fcn_resnet50.

    backbone: "resnet50", "resnet101", ...; depths, widths, stem, stem_width override parts of it, see `ResNet`.
    output_stride: 8, 16 or 32, of the map that is scored; None is 8. aux: whether a second head scores c4, with half the
    weight in the loss.
    """
    options = {"depths": depths, "widths": widths, "stem": stem, "stem_width": stem_width}
    common = {"norm": norm, "axis": axis, "dtype": dtype}
    trunk, (level, aux_level, _) = dilated_trunk(backbone, output_stride, remat=remat, **options, **common)
    head = FCNHead(num_classes, dropout, **common)
    aux_head = FCNHead(num_classes, **common) if aux else None
    model = Segmenter(trunk, head, aux_head, level, aux_level)
    return segmenter("fcn_resnet", model, loss, {"aux": 0.5} if aux else {})
