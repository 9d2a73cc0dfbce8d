"""FCN-32s, 16s, 8s (Long, Shelhamer & Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015).

VGG16, AlexNet or GoogLeNet with fc6 and fc7 as convolutions, a score layer, and bilinear upsampling with skips from finer
maps, VGG16's pool4 and pool3, that are added. The maps are cropped where they come to lie, as Caffe's Crop layer computes it.

Departures: images are RGB normalised by ImageNet's mean and deviation, not BGR less the mean; `input_pad` 1 with
`fc6_pad` 3 (or `fc6_kernel` 3 and `fc6_pad` 1) gives a network that stays within small pictures, where the paper pads them by 100;
AlexNet and GoogLeNet are those of `jaxvision.models.backbones`, and the latter's padding of 100 and its skips are not published.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.layers.geometry import Geometry
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.alexnet import AlexNet
from jaxvision.models.backbones.classification import network_input
from jaxvision.models.backbones.googlenet import GoogLeNet
from jaxvision.models.backbones.vgg import DEPTHS, VGG
from jaxvision.models.segmentation.objective import segmenter
from jaxvision.ops.resize import bilinear_kernel, conv_transpose

STRIDES = {32: (), 16: (16,), 8: (16, 8)}  # of the maps that are scored beside the last


class Kind(NamedTuple):
    """A family of trunks: its maker; its last map; the maps of stride 16 and 8 that skips read; fc6's channels and kernel."""

    trunk: Callable
    last: str
    skips: Mapping[int, str]
    fc: int
    fc6_kernel: int


KINDS = {
    "vgg": Kind(VGG, "c5", {16: "c4", 8: "c3"}, 4096, 7),
    "alexnet": Kind(AlexNet, "pool5", {16: "c5", 8: "c2"}, 4096, 6),
    "googlenet": Kind(GoogLeNet, "c5", {16: "c4", 8: "c3"}, 0, 0),
}


class Upscore(nn.Module):
    """Upsampling of scores (B,H,W,K) by a transposed convolution without bias, bilinear at the start.

    size: of its kernel, 2 stride, or 2 stride - 1 where cells lie on pixels' centres. learned: its kernel (size,size,K,K) is
    a parameter. Otherwise it stays bilinear, and is computed one axis at a time.
    """

    stride: int
    learned: bool
    size: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size, channels = self.size or 2 * self.stride, x.shape[-1]
        if self.learned:
            start = bilinear_kernel(size)[:, :, None, None] * np.eye(channels, dtype=np.float32)
            return conv_transpose(x, self.param("kernel", lambda _: jnp.array(start)), self.stride, 0)
        line = bilinear_kernel(size).sum(0) / self.stride
        rows, columns = (_spread(line, cells, self.stride) for cells in x.shape[1:3])
        x = jnp.einsum("oy,byxk->boxk", rows, x, precision="highest")
        return jnp.einsum("ox,byxk->byok", columns, x, precision="highest")

    def geometry(self, here: Geometry) -> Geometry:
        return here.conv_transpose(self.size or 2 * self.stride, self.stride, 0)


def _aligned(stride: int, here: Geometry, there: Geometry) -> int:
    """The size of the kernel with which cells of `here`, `stride` times as many, fall on those of `there`."""
    even = here.conv_transpose(2 * stride, stride, 0)
    return 2 * stride - bool((there.start - even.start) / even.stride % 1)


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
    """`logits` (B,H,W,num_classes) at the size of the image, beside the trunk's maps.

    kind: of the trunk. stride: 32, 16 or 8, of the finest map that is scored. fc: channels of fc6 and fc7; 0: there are none.
    deconv: "paper" (the last upsampling fixed bilinear, the others learned), "fixed" or "learned". scales: factors of the
    maps of stride 16 and 8 before they are scored.
    """

    trunk: nn.Module
    kind: Kind
    num_classes: int
    stride: int = 8
    fc: int = 4096
    fc6_kernel: int = 7
    fc6_pad: int = 0
    dropout: float = 0.5
    deconv: str = "paper"
    scales: tuple[float, float] = (1.0, 1.0)
    norm: str = "none"
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x = network_input(batch)
        maps = self.trunk(x, train)
        geometry = self.trunk.geometry()
        y, here = maps[self.kind.last], geometry[self.kind.last]
        for name, kernel, pad in (("fc6", self.fc6_kernel, self.fc6_pad), ("fc7", 1, 0)) if self.fc else ():
            y = Conv(self.fc, kernel, padding=pad, bias=self.norm == "none", dtype=self.dtype, name=name)(y)
            y = nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"{name}_norm")(y, train))
            y = nn.Dropout(self.dropout, deterministic=not train)(y)
            here = here.conv(kernel, 1, pad)
        scores = self._score("score", y)
        for stride, scale in zip(STRIDES[self.stride], self.scales):
            skip = self.kind.skips[stride]
            upscore = Upscore(2, self.deconv != "fixed", _aligned(2, here, geometry[skip]), name=f"upscore_{skip}")
            skipped = self._score(f"score_{skip}", maps[skip] * scale)
            scores, skipped, here = _overlap(upscore(scores), upscore.geometry(here), skipped, geometry[skip])
            scores = scores + skipped
        size = _aligned(self.stride, here, Geometry())
        upscore = Upscore(self.stride, self.deconv == "learned", size, name="upscore")
        logits, covered, _ = _overlap(upscore(scores), upscore.geometry(here), x, Geometry())
        if covered.shape != x.shape:
            raise ValueError(
                f"An image of {x.shape[1]}x{x.shape[2]} is too small for this network, whose scores cover only "
                f"{covered.shape[1]}x{covered.shape[2]} of it: enlarge it, or build the network with more input_pad or fc6_pad=3."
            )
        return {**maps, "logits": logits}

    def _score(self, name: str, x: jax.Array) -> jax.Array:
        """A 1x1 convolution that starts at zero, so that a skip changes nothing before it is trained."""
        return Conv(self.num_classes, 1, kernel_init=nn.initializers.zeros, name=name)(x.astype(jnp.float32))


def _fcn(
    stride: int,
    num_classes: int,
    backbone: str = "vgg16",
    depths: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    width: float | None = None,
    fc: int | None = None,
    input_pad: int = 100,
    fc6_kernel: int | None = None,
    fc6_pad: int = 0,
    dropout: float = 0.5,
    deconv: str = "paper",
    at_once: bool = False,
    loss: Mapping[str, Any] | None = None,
    norm: str | None = None,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """FCN; the defaults are the paper's on VGG16.

    backbone: "vgg16" or another VGG, "alexnet", which has no norm, or "googlenet", which has one but no dense layers (fc6, fc7
    and their dropout); depths and widths override those of a VGG, widths those of AlexNet, `width` is a factor of GoogLeNet's.
    at_once: maps of stride 16 and 8 are scaled by 0.01 and 0.0001 before they are scored, as the authors do where all strides
    are trained together and not one after the other. fc, fc6_kernel: None is the trunk's. See `FCN`.
    Raises ValueError for an unknown trunk or an option of another one.
    """
    if deconv not in ("paper", "fixed", "learned"):
        raise ValueError(f'deconv {deconv!r} is not one of "paper", "fixed", "learned".')
    known = {**dict.fromkeys(DEPTHS, "vgg"), "alexnet": "alexnet", "googlenet": "googlenet"}
    if backbone not in known:
        raise ValueError(f"There is no trunk {backbone!r}; known: {', '.join(known)}.")
    kind = KINDS[known[backbone]]
    norm = norm or ("batch" if backbone == "googlenet" else "none")
    options = dict(depths=depths, widths=widths, width=width, norm=norm, axis=axis, remat=remat or None)
    if kind.trunk is VGG:
        options.update(depths=depths or DEPTHS[backbone], ceil_mode=True)
    elif kind.trunk is AlexNet:
        options.update(ceil_mode=True, norm=None, axis=None)
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items() if v is not None}
    given = {"fc": fc, "fc6_kernel": fc6_kernel, "fc6_pad": fc6_pad} if kind.trunk is GoogLeNet else {}
    given |= {"norm": norm != "none"} if kind.trunk is AlexNet else {}
    foreign = sorted(
        options.keys() - kind.trunk.__dataclass_fields__.keys() | {n for n, value in given.items() if value}
    )
    if foreign:
        raise ValueError(f"A trunk {backbone!r} has no option {', '.join(foreign)}.")
    # The paper's pad of 100 stands in the place of the first convolution's own padding.
    trunk = kind.trunk(**options, pad=input_pad, dtype=dtype)
    fc = kind.fc if fc is None else fc
    fc6_kernel = kind.fc6_kernel if fc6_kernel is None else fc6_kernel
    scales = (0.01, 0.0001) if at_once else (1.0, 1.0)
    common = dict(dropout=dropout, deconv=deconv, scales=scales, norm=norm, axis=axis, dtype=dtype)
    model = FCN(trunk, kind, num_classes, stride, fc, fc6_kernel, fc6_pad, **common)
    return segmenter(f"fcn{stride}s", model, loss)


fcn32s = functools.partial(_fcn, 32)
fcn16s = functools.partial(_fcn, 16)
fcn8s = functools.partial(_fcn, 8)
