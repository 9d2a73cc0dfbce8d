"""MobileNetV3 (Howard et al., "Searching for MobileNetV3", ICCV 2019), as a trunk and as a classifier.

As torchvision builds it: squeeze-and-excitation on a quarter of the expanded channels, BatchNorm with eps 0.001.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import classifier, network_input


class Row(NamedTuple):
    """A block of the paper's tables 1 and 2; activation "hard_swish" or "relu"."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    activation: str
    stride: int


LARGE = (
    Row(3, 16, 16, False, "relu", 1),
    Row(3, 64, 24, False, "relu", 2),
    Row(3, 72, 24, False, "relu", 1),
    Row(5, 72, 40, True, "relu", 2),
    Row(5, 120, 40, True, "relu", 1),
    Row(5, 120, 40, True, "relu", 1),
    Row(3, 240, 80, False, "hard_swish", 2),
    Row(3, 200, 80, False, "hard_swish", 1),
    Row(3, 184, 80, False, "hard_swish", 1),
    Row(3, 184, 80, False, "hard_swish", 1),
    Row(3, 480, 112, True, "hard_swish", 1),
    Row(3, 672, 112, True, "hard_swish", 1),
    Row(5, 672, 160, True, "hard_swish", 2),
    Row(5, 960, 160, True, "hard_swish", 1),
    Row(5, 960, 160, True, "hard_swish", 1),
)
SMALL = (
    Row(3, 16, 16, True, "relu", 2),
    Row(3, 72, 24, False, "relu", 2),
    Row(3, 88, 24, False, "relu", 1),
    Row(5, 96, 40, True, "hard_swish", 2),
    Row(5, 240, 40, True, "hard_swish", 1),
    Row(5, 240, 40, True, "hard_swish", 1),
    Row(5, 120, 48, True, "hard_swish", 1),
    Row(5, 144, 48, True, "hard_swish", 1),
    Row(5, 288, 96, True, "hard_swish", 2),
    Row(5, 576, 96, True, "hard_swish", 1),
    Row(5, 576, 96, True, "hard_swish", 1),
)
# name -> (blocks, features of the classifier's hidden layer)
TRUNKS = {"mobilenet_v3_large": (LARGE, 1280), "mobilenet_v3_small": (SMALL, 1024)}
STEM = 16
TAIL = 3  # the last blocks, from the stride of c5 on


def divisible(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, at least 8 and not below nine tenths of it."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def scale(rows: Sequence[Row], width: float, reduce_tail: bool) -> list[Row]:
    """The blocks with their numbers of channels; the tail's are halved before they are scaled."""
    found = []
    for i, row in enumerate(rows, TAIL - len(rows)):  # from 0 on it is the tail
        out = row.out // 2 if reduce_tail and i >= 0 else row.out
        expanded = row.expanded // 2 if reduce_tail and i > 0 else row.expanded
        found.append(row._replace(expanded=divisible(expanded * width), out=divisible(out * width)))
    return found


class SqueezeExcitation(nn.Module):
    """x (B,H,W,C) times a factor in 0..1 for each channel, from the mean of its map (Hu et al., CVPR 2018).

    The mean is that of the whole canvas, beyond the image too, as torchvision has it.
    """

    squeezed: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32).mean((1, 2), keepdims=True)
        y = nn.relu(Conv(self.squeezed, 1, dtype=self.dtype, name="fc1")(y))
        return x * nn.hard_sigmoid(Conv(x.shape[-1], 1, dtype=self.dtype, name="fc2")(y))


class Block(nn.Module):
    """An inverted residual: 1x1 expansion, depthwise convolution, squeeze-and-excitation, linear 1x1 projection.

    Returns the map and its expansion. row: channels as they are, the width applied. dilation: in place of the stride.
    """

    row: Row
    dilation: int
    norm: Mapping[str, Any]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        row, activation = self.row, getattr(nn, self.row.activation)

        def conv_norm(x, name, features, kernel=1, **options):
            bias = self.norm["kind"] == "none"
            x = Conv(features, kernel, bias=bias, dtype=self.dtype, name=name, **options)(x)
            return Norm(**self.norm, dtype=self.dtype, name=f"{name}_norm")(x, train)

        y = x
        if row.expanded != x.shape[-1]:
            y = activation(conv_norm(y, "expand", row.expanded))
        y = expanded = self.perturb("expanded", y)
        depthwise = {
            "stride": 1 if self.dilation > 1 else row.stride,
            "dilation": self.dilation,
            "groups": row.expanded,
        }
        y = activation(conv_norm(y, "depthwise", row.expanded, row.kernel, **depthwise))
        if row.squeeze:
            y = SqueezeExcitation(divisible(row.expanded // 4), self.dtype, name="squeeze")(y)
        y = conv_norm(y, "project", row.out)
        if row.stride == 1 and x.shape == y.shape:
            y = x + y
        return y, expanded


class MobileNetV3(nn.Module):
    """Images (B,H,W,3), normalised, to maps {"c1": stride 2, "c2": 4, "c3": 8, "c4": 16, "c5": 32} and two more.

    c1 is the stem's, c2..c5 the outputs of the first block of each stride, where torchvision's detectors and segmenters
    take them. "c4_expanded", stride 16: the expansion inside c5's block, SSDLite's first map. "final", stride 32: after the
    last 1x1 convolution, of six times the channels.

    width: factor of all channels, which are then multiples of 8. reduce_tail: half the channels from c5's block on.
    dilated: c5 and all after it dilate in place of their stride, and stay at 16. stem_stride: 1 is for small pictures, and
    halves the stride of every map. eps, momentum: of the norms, the latter as flax counts it. remat: recompute blocks in
    the backward pass.
    """

    rows: Sequence[Row] = LARGE
    width: float = 1.0
    reduce_tail: bool = False
    stem_stride: int = 2
    dilated: bool = False
    norm: str = "batch"
    eps: float = 1e-3
    momentum: float = 0.99
    axis: str | None = None
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        norm = {"kind": self.norm, "eps": self.eps, "momentum": self.momentum, "axis": self.axis}

        def conv_norm(x, name, features, kernel, stride):
            x = Conv(features, kernel, stride, bias=self.norm == "none", dtype=self.dtype, name=name)(x)
            return nn.hard_swish(Norm(**norm, dtype=self.dtype, name=f"{name}_norm")(x, train))

        x = conv_norm(x, "stem", divisible(STEM * self.width), 3, self.stem_stride)
        x = self.perturb("c1", x)
        maps, level = {"c1": x}, 1
        for i, row in enumerate(scale(self.rows, self.width, self.reduce_tail), 1):
            dilation = 2 if self.dilated and i > len(self.rows) - TAIL else 1
            x, expanded = block(row, dilation, norm, self.dtype, name=f"block{i}")(x, train)
            if row.stride > 1:
                level += 1
                x = maps[f"c{level}"] = self.perturb(f"c{level}", x)
                if level == 5:
                    maps["c4_expanded"] = expanded
        maps["final"] = self.perturb("final", conv_norm(x, "last", 6 * x.shape[-1], 1, 1))
        return maps


def trunk(name: str = "mobilenet_v3_large", **options) -> MobileNetV3:
    """The MobileNetV3 of that name; `options` are its fields. Raises ValueError for an unknown name."""
    if name not in TRUNKS:
        raise ValueError(f"There is no trunk {name!r}; known: {', '.join(TRUNKS)}.")
    return MobileNetV3(**{"rows": TRUNKS[name][0], **options})


class MobileNetV3Classifier(nn.Module):
    """`logits` (B, num_classes) from the mean of the final map and a hidden layer, beside the trunk's maps."""

    trunk: MobileNetV3
    num_classes: int
    fc: int
    dropout: float = 0.2

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        maps = self.trunk(network_input(batch), train)
        x = maps["final"].astype(jnp.float32).mean((1, 2))
        x = nn.hard_swish(nn.Dense(self.fc, name="fc")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return {**maps, "logits": nn.Dense(self.num_classes, name="head")(x)}


def mobilenet_v3(
    num_classes: int,
    trunk_name: str = "mobilenet_v3_large",
    width: float = 1.0,
    reduce_tail: bool = False,
    stem_stride: int = 2,
    dilated: bool = False,
    fc: int | None = None,
    dropout: float = 0.2,
    norm: str = "batch",
    eps: float = 1e-3,
    momentum: float = 0.99,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
    loss: str | None = None,
    multi_label: bool = False,
) -> Architecture:
    """A MobileNetV3 classifier, "mobilenet_v3_large" or "mobilenet_v3_small".

    width, reduce_tail, stem_stride, dilated, norm, eps, momentum: see `MobileNetV3`. fc: features of the hidden layer; None
    is 1280 or 1024, scaled as the trunk is. Raises ValueError for an unknown name.
    """
    options = {"width": width, "reduce_tail": reduce_tail, "stem_stride": stem_stride, "dilated": dilated}
    options |= {"norm": norm, "eps": eps, "momentum": momentum, "axis": axis, "remat": remat, "dtype": dtype}
    network = trunk(trunk_name, **options)
    if fc is None:
        fc = divisible(TRUNKS[trunk_name][1] // (1 + reduce_tail) * width)
    model = MobileNetV3Classifier(network, num_classes, fc, dropout)
    return classifier("mobilenet_v3", model, loss, multi_label)
