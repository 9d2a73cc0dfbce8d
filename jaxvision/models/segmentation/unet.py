"""U-Net (Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015).

Convolutions without padding eat the border of their input, so the network is given more than it answers for: the image
continued by its mirror image. Departures: RGB normalised by ImageNet's mean and deviation, not grey values; an optional
normalisation, to train from scratch; and `padding="same"`, which is what most others call a U-Net.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv, he_normal
from jaxvision.models.backbones.classification import network_input
from jaxvision.models.backbones.vgg import Block
from jaxvision.models.segmentation.objective import segmenter
from jaxvision.ops.images import mirror
from jaxvision.ops.pool import max_pool
from jaxvision.ops.resize import conv_transpose


class Up(nn.Module):
    """Twice the size and half the channels, by a transposed convolution whose 2x2 kernels do not overlap, with ReLU."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", he_normal, (2, 2, self.features, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return nn.relu(conv_transpose(x.astype(self.dtype), kernel.astype(self.dtype), 2, 0) + bias.astype(self.dtype))


class Contracting(nn.Module):
    """Images (B,H,W,3), normalised, to maps {"c1": stride 1, ..., "c5": 16}: each level's before its pool."""

    widths: Sequence[int]
    pad: int
    dropout: float
    norm: str
    axis: str | None
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        maps, block = {}, nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        common = self.pad, self.norm == "none", self.norm, self.axis, self.dtype, self.pad > 0
        for level, width in enumerate(self.widths, 1):
            x = x if level == 1 else max_pool(x, 2)
            x = block(2, width, *common, name=f"level{level}")(x, train)
            if level >= len(self.widths) - 1:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = maps[f"c{level}"] = self.perturb(f"c{level}", x)
        return maps


class UNet(nn.Module):
    """`logits` (B,H,W,num_classes) at the size of the canvas, beside the maps of both ways: c1..c5 down, u4..u1 up.

    With padding="valid" those cover more than the image. widths: of the levels. dropout: behind the two lowest.
    """

    num_classes: int
    widths: Sequence[int] = (64, 128, 256, 512, 1024)
    padding: str = "valid"
    dropout: float = 0.5
    norm: str = "none"
    axis: str | None = None
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x = network_input(batch)
        canvas, pools, pad = x.shape[1:3], len(self.widths) - 1, int(self.padding == "same")
        sizes, before = zip(*(input_side(side, pools, not pad) for side in canvas))
        x = mirror(x, batch["image_size"], before, sizes)
        trunk = Contracting(self.widths, pad, self.dropout, self.norm, self.axis, self.remat, self.dtype, name="trunk")
        maps, block = trunk(x, train), nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        common = pad, self.norm == "none", self.norm, self.axis, self.dtype, pad > 0
        x = maps[f"c{pools + 1}"]
        for level in range(pools, 0, -1):
            x = Up(self.widths[level - 1], self.dtype, name=f"enlarge{level}")(x)
            x = jnp.concatenate([_centre(maps[f"c{level}"], x.shape), x], -1)
            x = block(2, self.widths[level - 1], *common, name=f"level{level}")(x, train)
            x = maps[f"u{level}"] = self.perturb(f"u{level}", x)
        logits = Conv(self.num_classes, 1, name="logits")(x.astype(jnp.float32))
        return {**maps, "logits": logits[:, : canvas[0], : canvas[1]]}


def input_side(side: int, pools: int, valid: bool) -> tuple[int, int]:
    """(pixels that must go in for `side` to come out, how many of them come before the image's first), along one axis.

    Every pool must have an even side to work on. Valid convolutions take 4 cells at each level, once on the way down and,
    but for the lowest, once on the way up: with four pools 92 pixels at each border.
    """
    step = 2**pools
    if not valid:
        return -(-side // step) * step, 0
    lost = 4 * (step - 1)
    lowest = -(-(side + lost) // step) + 4
    return lowest * step + lost, 2 * step + lost


def _centre(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    top, left = ((n - m) // 2 for n, m in zip(x.shape[1:3], shape[1:3]))
    return x[:, top : top + shape[1], left : left + shape[2]]


def unet(
    num_classes: int,
    widths: Sequence[int] = (64, 128, 256, 512, 1024),
    padding: str = "valid",
    dropout: float = 0.5,
    loss: Mapping[str, Any] | None = None,
    norm: str = "none",
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """U-Net; the defaults are the paper's. padding: "valid", or "same" for maps of the image's own size. See `UNet`."""
    if padding not in ("valid", "same"):
        raise ValueError(f'padding {padding!r} is not "valid" or "same".')
    model = UNet(num_classes, tuple(widths), padding, dropout, norm, axis, remat, dtype)
    return segmenter("unet", model, loss)
