"""DeconvNet (Noh, Hong & Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015).

VGG16 down to one vector, and its mirror image back: pools are undone by the places of their maxima, and convolutions (the
paper's deconvolutions have stride 1, so they are convolutions) fill in between. BatchNorm behind every one, no dropout.

Departures: images are RGB normalised by ImageNet's mean and deviation, not BGR less the mean; statistics are running ones,
where the authors average over 500 batches after training; `fc6_kernel` suits smaller pictures than 224.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv, he_normal
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import network_input
from jaxvision.models.backbones.vgg import VGG, VGG16
from jaxvision.models.segmentation.objective import segmenter
from jaxvision.ops.resize import conv_transpose
from jaxvision.ops.unpool import max_unpool


class DeconvNet(nn.Module):
    """`logits` (B,H,W,num_classes) at the size of the canvas; c1..c5 and their switches s1..s5 down, u5..u1 up.

    start: deviation of the deconvolutions' normal initialisation, or None for He's. Raises ValueError for a canvas whose
    last map is smaller than fc6's kernel.
    """

    trunk: VGG
    num_classes: int
    fc: int = 4096
    fc6_kernel: int = 7
    start: float | None = 0.01
    remat: bool = False

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        trunk = self.trunk
        x = network_input(batch, self.fc6_kernel * 2 ** len(trunk.depths))
        maps, init = trunk(x, train), he_normal if self.start is None else nn.initializers.normal(self.start)
        common = dict(bias=trunk.norm == "none", dtype=trunk.dtype)

        def norm_relu(y, name):
            return nn.relu(Norm(trunk.norm, axis=trunk.axis, dtype=trunk.dtype, name=name)(y, train))

        y = maps[f"c{len(trunk.depths)}"]
        bottom = y.shape[-1]
        for name, kernel in (("fc6", self.fc6_kernel), ("fc7", 1)):
            y = norm_relu(Conv(self.fc, kernel, padding=0, **common, name=name)(y), f"{name}_norm")
        y = norm_relu(Deconv(bottom, self.fc6_kernel, init, **common, name="fc6_deconv")(y), "fc6_deconv_norm")
        block = nn.remat(DeconvBlock, static_argnums=(2,)) if self.remat else DeconvBlock
        for stage in range(len(trunk.depths), 0, -1):
            size = maps[f"c{stage - 1}"].shape[1:3] if stage > 1 else x.shape[1:3]
            y = max_unpool(y, maps[f"s{stage}"], 2, size)
            width, out = trunk.widths[stage - 1], trunk.widths[max(stage - 2, 0)]
            widths = (width,) * (trunk.depths[stage - 1] - 1) + (out,)
            y = block(widths, init, trunk.norm, trunk.axis, trunk.dtype, name=f"deconv{stage}")(y, train)
            y = maps[f"u{stage}"] = self.perturb(f"u{stage}", y)
        return {**maps, "logits": Conv(self.num_classes, 1, kernel_init=init, name="logits")(y.astype(jnp.float32))}


class Deconv(nn.Module):
    """The transposed convolution of stride 1 that undoes the size of a valid one: (B,h,w,I) to (B,h+k-1,w+k-1,features)."""

    features: int
    kernel: int
    kernel_init: Any
    bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (self.kernel, self.kernel, self.features, x.shape[-1]))
        x = conv_transpose(x.astype(self.dtype), kernel.astype(self.dtype), 1, 0)
        return x + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype) if self.bias else x


class DeconvBlock(nn.Module):
    """3x3 deconvolutions of stride 1, which keep the size, each with its norm and ReLU."""

    widths: Sequence[int]
    kernel_init: Any
    norm: str
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for i, width in enumerate(self.widths):
            common = dict(bias=self.norm == "none", kernel_init=self.kernel_init, dtype=self.dtype)
            x = Conv(width, 3, **common, name=f"conv{i}")(x)
            x = nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"norm{i}")(x, train))
        return x


def deconvnet(
    num_classes: int,
    depths: Sequence[int] = VGG16[0],
    widths: Sequence[int] = VGG16[1],
    fc: int = 4096,
    fc6_kernel: int = 7,
    start: float | None = 0.01,
    loss: Mapping[str, Any] | None = None,
    norm: str = "batch",
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """DeconvNet; the defaults are the paper's. depths, widths: of the blocks, mirrored on the way up. See `DeconvNet`."""
    trunk = VGG(tuple(depths), tuple(widths), norm=norm, axis=axis, remat=remat, dtype=dtype, switches=True)
    model = DeconvNet(trunk, num_classes, fc, fc6_kernel, start, remat)
    return segmenter("deconvnet", model, loss)
