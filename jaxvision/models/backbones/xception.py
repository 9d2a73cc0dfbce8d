"""Modified Xception (Chen et al., "Encoder-Decoder with Atrous Separable Convolution", ECCV 2018), as a trunk.

Chollet's Xception (CVPR 2017), deeper, with strided separable convolutions in place of max-pools, and a norm behind every
depthwise convolution. As in the authors' published networks, ReLUs come before each separable convolution; only in the last
module they follow its depthwise and pointwise halves.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.layers.separable import SeparableConv

# (width, stride) of the entry flow's modules; how many modules the middle flow has.
ENTRY = ((128, 2), (256, 2), (728, 2))
TRUNKS = {
    "xception41": dict(entry=ENTRY, middle=8),
    "xception65": dict(entry=ENTRY, middle=16),
    "xception71": dict(entry=((128, 2), (256, 1), (256, 2), (728, 1), (728, 2)), middle=16),
}


class Module(nn.Module):
    """Three separable convolutions (B,H,W,I) -> (B,H/stride,W/stride,widths[2]), the last with the stride, and a shortcut.

    Returns what the second gives beside it, the finest map before the stride. skip: "conv", "sum" or "none". inside: ReLUs
    behind each half of a separable convolution rather than before it.
    """

    widths: Sequence[int]
    skip: str
    stride: int
    dilation: int
    inside: bool
    norm: str
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        common = dict(norm=self.norm, axis=self.axis, dtype=self.dtype)
        between = "norm_relu" if self.inside else "norm"
        y = fine = x
        for i, width in enumerate(self.widths, 1):
            last = i == len(self.widths)
            fine = y if last else fine
            y = y if self.inside else nn.relu(y)
            stride = self.stride if last else 1
            conv = SeparableConv(width, stride, self.dilation, between, self.inside, **common, name=f"separable{i}")
            y = conv(y, train)
        if self.skip == "conv":
            x = Conv(y.shape[-1], 1, self.stride, bias=self.norm == "none", dtype=self.dtype, name="shortcut")(x)
            x = Norm(self.norm, axis=self.axis, dtype=self.dtype, name="shortcut_norm")(x, train)
        return (y if self.skip == "none" else x + y), fine


class Xception(nn.Module):
    """Images (B,H,W,3), normalised, to maps {"c1": stride 2, "c2": 4, "c3": 8, "c4": 16, "c5": 32} and "low".

    "low" is what DeepLabv3+'s decoder reads: c3's module before its stride of 2. c4 is the middle flow's last map. A stride
    beyond output_stride becomes a dilation. width: factor of every number of channels.
    """

    entry: Sequence[tuple[int, int]] = ENTRY
    middle: int = 16
    width: float = 1.0
    output_stride: int = 32
    norm: str = "batch"
    axis: str | None = None
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        module = nn.remat(Module, static_argnums=(2,)) if self.remat else Module
        reached, dilation = 2, 1

        def run(x, widths, skip, stride, name, inside=False):
            nonlocal reached, dilation
            here, after = dilation, stride
            if reached == self.output_stride:
                stride, dilation = 1, dilation * stride
            else:
                reached *= after
            widths = tuple(self.channels(w) for w in widths)
            return module(widths, skip, stride, here, inside, self.norm, self.axis, self.dtype, name=name)(x, train)

        for i, (width, stride) in enumerate(((32, 2), (64, 1)), 1):
            bias = self.norm == "none"
            x = Conv(self.channels(width), 3, stride, bias=bias, dtype=self.dtype, name=f"stem{i}")(x)
            x = nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"stem{i}_norm")(x, train))
        maps, level = {"c1": self.perturb("c1", x)}, 1
        for i, (width, stride) in enumerate(self.entry, 1):
            x, fine = run(x, (width,) * 3, "conv", stride, f"entry{i}")
            level += stride > 1
            if stride > 1 and level == 3:
                maps["low"] = self.perturb("low", fine)
            if stride > 1 and level < 4:
                x = maps[f"c{level}"] = self.perturb(f"c{level}", x)
        for i in range(1, self.middle + 1):
            x, _ = run(x, (self.entry[-1][0],) * 3, "sum", 1, f"middle{i}")
        x = maps["c4"] = self.perturb("c4", x)
        x, _ = run(x, (728, 1024, 1024), "conv", 2, "exit1")
        x, _ = run(x, (1536, 1536, 2048), "none", 1, "exit2", inside=True)
        maps["c5"] = self.perturb("c5", x)
        return maps

    def channels(self, width: int) -> int:
        return max(1, round(width * self.width))


def trunk(name: str = "xception65", **options) -> Xception:
    """The Xception of that name; `options` are fields of `Xception` and override it. Raises ValueError for an unknown name."""
    if name not in TRUNKS:
        raise ValueError(f"There is no trunk {name!r}; known: {', '.join(TRUNKS)}.")
    return Xception(**{**TRUNKS[name], **options})
