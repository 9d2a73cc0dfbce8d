"""VGG (Simonyan & Zisserman, "Very Deep Convolutional Networks", ICLR 2015), as a trunk and as a classifier."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv, he_normal
from jaxvision.layers.geometry import Geometry
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import classifier, network_input
from jaxvision.ops.pool import adaptive_avg_pool, max_pool
from jaxvision.ops.unpool import max_pool_with_switches

DEPTHS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
VGG16 = (DEPTHS["vgg16"], (64, 128, 256, 512, 512))


class VGG(nn.Module):
    """Images (B,H,W,3), normalised, to maps {"c1": stride 2, ..., "c5": 32}: each block's output after its pool.

    pad: of the very first convolution (FCN's is 100). ceil_mode: of the pools, as in Caffe. norm: after each convolution.
    bias: of convolutions that a norm follows; those without one always have it. same: whether the other convolutions keep
    the size, or have no padding. dilated: the last two blocks have no pool behind them, so that c4 and c5 stay at c3's
    stride, and the last is dilated by 2 (Yu & Koltun, ICLR 2016). last_pool: False leaves out the pool behind the last block,
    which then has the stride of the one before. switches: beside each map "s1".."s5", the places of its
    maxima (see `jaxvision.ops.unpool`); then a pool leaves out what is over of an odd side. window: of the pools, odd ones
    padded on all sides. flat: so many of the last pools have stride 1, so that the maps keep their size; then with an odd window.
    """

    depths: Sequence[int] = VGG16[0]
    widths: Sequence[int] = VGG16[1]
    pad: int = 1
    ceil_mode: bool = False
    norm: str = "none"
    axis: str | None = None
    remat: bool = False
    dtype: Any = jnp.float32
    bias: bool = False
    same: bool = True
    dilated: bool = False
    switches: bool = False
    last_pool: bool = True
    window: int = 2
    flat: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        maps = {}
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        common = self.bias or self.norm == "none", self.norm, self.axis, self.dtype, self.same
        for stage, width in enumerate(self.widths, 1):
            depth, pad, dilation, stride = self.block(stage)
            x = block(depth, width, pad, *common, dilation, name=f"block{stage}")(x, train)
            if self.switches:
                x, maps[f"s{stage}"] = max_pool_with_switches(x, 2)
            elif stride:
                x = max_pool(x, self.window, stride, (self.window - 1) // 2, ceil_mode=self.ceil_mode)
            x = maps[f"c{stage}"] = self.perturb(f"c{stage}", x)
        return maps

    def block(self, stage: int) -> tuple[int, int, int, int]:
        """(convolutions, padding of the first, dilation, stride of the pool behind or 0) of the blocks, counted from 1."""
        last = len(self.depths)
        dilation = 2 if self.dilated and stage == last else 1
        pad = self.pad if stage == 1 else dilation * self.same
        pooled = (not self.dilated or stage < last - 1) and (self.last_pool or stage < last)
        return self.depths[stage - 1], pad, dilation, pooled * (1 if stage > last - self.flat else 2)

    def geometry(self) -> dict[str, Geometry]:
        """Where the cells of each map lie in the image."""
        here, maps = Geometry(), {}
        for stage in range(1, len(self.depths) + 1):
            depth, pad, dilation, stride = self.block(stage)
            for i in range(depth):
                here = here.conv(2 * dilation + 1, 1, pad if i == 0 else dilation * self.same)
            here = maps[f"c{stage}"] = here.conv(self.window, stride, (self.window - 1) // 2) if stride else here
        return maps


class Block(nn.Module):
    """`depth` 3x3 convolutions of `width` channels, each with its norm and ReLU.

    pad: of the first convolution. same: whether the others keep the size, or have no padding.
    """

    depth: int
    width: int
    pad: int
    bias: bool
    norm: str
    axis: str | None
    dtype: Any
    same: bool = True
    dilation: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        common = dict(dilation=self.dilation, bias=self.bias, dtype=self.dtype)
        for i in range(self.depth):
            pad = self.pad if i == 0 else self.dilation * self.same
            x = Conv(self.width, 3, padding=pad, **common, name=f"conv{i}")(x)
            x = nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"norm{i}")(x, train))
        return x


class VGGClassifier(nn.Module):
    """`logits` (B, num_classes) from the last map, pooled to 7x7, beside all maps. Raises ValueError for images too small."""

    trunk: VGG
    num_classes: int
    fc: int = 4096
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        maps = self.trunk(network_input(batch, 2 ** len(self.trunk.depths)), train)
        x = adaptive_avg_pool(maps[f"c{len(self.trunk.depths)}"], 7)
        x = x.reshape(len(x), -1)
        for name in ("fc6", "fc7"):
            x = nn.relu(nn.Dense(self.fc, kernel_init=he_normal, dtype=self.dtype, name=name)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return {**maps, "logits": nn.Dense(self.num_classes, name="head")(x.astype(jnp.float32))}


def vgg(
    num_classes: int,
    trunk_name: str = "vgg16",
    depths: Sequence[int] | None = None,
    widths: Sequence[int] = VGG16[1],
    fc: int = 4096,
    dropout: float = 0.5,
    norm: str = "none",
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
    loss: str | None = None,
    multi_label: bool = False,
) -> Architecture:
    """A VGG classifier; `trunk_name` ("vgg11", "vgg13", "vgg16", "vgg19") sets the depths, `depths` overrides them.

    norm="batch" is torchvision's "_bn", whose convolutions keep their bias. fc: channels of fc6 and fc7. loss,
    multi_label: see `classifier`. Raises ValueError for an unknown name.
    """
    if trunk_name not in DEPTHS:
        raise ValueError(f"There is no trunk {trunk_name!r}; known: {', '.join(DEPTHS)}.")
    depths = DEPTHS[trunk_name] if depths is None else depths
    trunk = VGG(tuple(depths), tuple(widths), norm=norm, axis=axis, remat=remat, dtype=dtype, bias=True)
    model = VGGClassifier(trunk, num_classes, fc, dropout, dtype)
    return classifier("vgg", model, loss, multi_label)
