"""FCN-32s, 16s, 8s (Long, Shelhamer & Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015).

VGG16 with fc6 and fc7 as convolutions, a score layer, and bilinear upsampling with skips from pool4 and pool3 that are
added. The maps are cropped where they come to lie, as Caffe's Crop layer computes it.

Departures: images are RGB normalised by ImageNet's mean and deviation, not BGR less the mean; `input_pad` 1 with
`fc6_pad` 3 (or `fc6_kernel` 3 and `fc6_pad` 1) gives a network that stays within small pictures, where the paper pads them by 100.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.layers.geometry import Geometry
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.resnet import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.models.backbones.vgg import VGG, VGG16
from jaxvision.models.segmentation.segmenter import segmentation_losses, segmentation_predict
from jaxvision.ops.images import normalize
from jaxvision.ops.resize import bilinear_kernel, conv_transpose

SKIPS = {32: (), 16: ("c4",), 8: ("c4", "c3")}


class Upscore(nn.Module):
    """Upsampling of scores (B,H,W,K) by a transposed convolution of kernel 2 stride, without bias, bilinear at the start.

    learned: its kernel (2s,2s,K,K) is a parameter. Otherwise it stays bilinear, and is computed one axis at a time.
    """

    stride: int
    learned: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size, channels = 2 * self.stride, x.shape[-1]
        if self.learned:
            start = bilinear_kernel(size)[:, :, None, None] * np.eye(channels, dtype=np.float32)
            return conv_transpose(x, self.param("kernel", lambda _: jnp.array(start)), self.stride, 0)
        line = bilinear_kernel(size).sum(0) / self.stride
        rows, columns = (_spread(line, cells, self.stride) for cells in x.shape[1:3])
        x = jnp.einsum("oy,byxk->boxk", rows, x, precision="highest")
        return jnp.einsum("ox,byxk->byok", columns, x, precision="highest")

    def geometry(self, here: Geometry) -> Geometry:
        return here.conv_transpose(2 * self.stride, self.stride, 0)


def _spread(line: np.ndarray, cells: int, stride: int) -> np.ndarray:
    """The matrix (stride (cells - 1) + len(line), cells) of a transposed convolution with `line`."""
    matrix = np.zeros((stride * (cells - 1) + len(line), cells), np.float32)
    for cell in range(cells):
        matrix[cell * stride : cell * stride + len(line), cell] = line
    return matrix


def _overlap(a: jax.Array, a_at: Geometry, b: jax.Array, b_at: Geometry) -> tuple[jax.Array, jax.Array, Geometry]:
    """The parts of two maps of one stride that lie on each other, and where that is."""
    offset = a_at.offset(b_at)
    sides = [min(n - max(offset, 0), m - max(-offset, 0)) for n, m in zip(a.shape[1:3], b.shape[1:3])]

    def cut(x, first):
        return x[:, first : first + sides[0], first : first + sides[1]]

    place = Geometry(a_at.stride, a_at.start + a_at.stride * max(offset, 0))
    return cut(a, max(offset, 0)), cut(b, max(-offset, 0)), place


class FCN(nn.Module):
    """`logits` (B,H,W,num_classes) at the size of the image, beside the trunk's maps c1..c5.

    stride: 32, 16 or 8, of the finest map that is scored. fc: channels of fc6 and fc7. deconv: "paper" (the last
    upsampling fixed bilinear, the others learned), "fixed" or "learned".
    """

    trunk: VGG
    num_classes: int
    stride: int = 8
    fc: int = 4096
    fc6_kernel: int = 7
    fc6_pad: int = 0
    dropout: float = 0.5
    deconv: str = "paper"
    norm: str = "none"
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x = normalize(batch["image"], batch["image_size"], IMAGENET_MEAN, IMAGENET_STD)
        maps = self.trunk(x, train)
        geometry = self.trunk.geometry()
        y, here = maps["c5"], geometry["c5"].conv(self.fc6_kernel, 1, self.fc6_pad)
        for name, kernel, pad in (("fc6", self.fc6_kernel, self.fc6_pad), ("fc7", 1, 0)):
            y = Conv(self.fc, kernel, padding=pad, bias=self.norm == "none", dtype=self.dtype, name=name)(y)
            y = nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"{name}_norm")(y, train))
            y = nn.Dropout(self.dropout, deterministic=not train)(y)
        scores = self._score("score", y)
        for skip in SKIPS[self.stride]:
            upscore = Upscore(2, self.deconv != "fixed", name=f"upscore_{skip}")
            skipped = self._score(f"score_{skip}", maps[skip])
            scores, skipped, here = _overlap(upscore(scores), upscore.geometry(here), skipped, geometry[skip])
            scores = scores + skipped
        upscore = Upscore(self.stride, self.deconv == "learned", name="upscore")
        logits, covered, _ = _overlap(upscore(scores), upscore.geometry(here), x, Geometry())
        if covered.shape != x.shape:
            raise ValueError(
                f"An image of {x.shape[1]}x{x.shape[2]} is too small for this network, whose scores cover only "
                f"{covered.shape[1]}x{covered.shape[2]} of it: raise input_pad, or set fc6_pad=3."
            )
        return {**maps, "logits": logits}

    def _score(self, name: str, x: jax.Array) -> jax.Array:
        """A 1x1 convolution that starts at zero, so that a skip changes nothing before it is trained."""
        return Conv(self.num_classes, 1, kernel_init=nn.initializers.zeros, name=name)(x.astype(jnp.float32))


def _fcn(
    stride: int,
    num_classes: int,
    depths: Sequence[int] = VGG16[0],
    widths: Sequence[int] = VGG16[1],
    fc: int = 4096,
    input_pad: int = 100,
    fc6_kernel: int = 7,
    fc6_pad: int = 0,
    dropout: float = 0.5,
    deconv: str = "paper",
    norm: str = "none",
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    if deconv not in ("paper", "fixed", "learned"):
        raise ValueError(f'deconv {deconv!r} is not one of "paper", "fixed", "learned".')
    trunk = VGG(tuple(depths), tuple(widths), input_pad, True, norm, axis, remat, dtype)
    model = FCN(trunk, num_classes, stride, fc, fc6_kernel, fc6_pad, dropout, deconv, norm, axis, dtype)
    return Architecture(f"fcn{stride}s", model, segmentation_losses, segmentation_predict, "segmentation")


fcn32s = functools.partial(_fcn, 32)
fcn16s = functools.partial(_fcn, 16)
fcn8s = functools.partial(_fcn, 8)
