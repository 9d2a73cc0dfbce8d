"""Dilated convolutions (Yu & Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions", ICLR 2016).

The front end is VGG16 without its last two pools, whose convolutions behind them are dilated instead, on an image continued
by its mirror image where its convolutions have no padding. The context module refines its scores at their own size and
begins as the identity. Departures: RGB normalised by ImageNet's mean and deviation, not BGR less the mean; an optional
normalisation, to train from scratch; and `padding="same"`, a front end that stays within the image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import network_input
from jaxvision.models.backbones.vgg import VGG, VGG16
from jaxvision.models.segmentation.fcn import Upscore
from jaxvision.models.segmentation.objective import segmenter
from jaxvision.ops.images import mirror

DILATIONS = (1, 1, 2, 4, 8, 16, 1)
# Channels of the context module's layers, in numbers of classes.
CONTEXTS = {"none": (), "basic": (1, 1, 1, 1, 1, 1, 1), "large": (2, 2, 4, 8, 16, 32, 32)}


def identity(classes: int, inputs: int, outputs: int, noise: float = 0.01):
    """An initialiser of kernels (k,k,inputs,outputs) that hands each class's channels on to its channels: equation 5.

    inputs and outputs are multiples of the number of classes, and a class's value is spread over its channels. Where there
    are more channels than classes everything else is noise of that deviation, a hundredth of a weight by default.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        same = np.arange(inputs)[:, None] * classes // inputs == np.arange(outputs) * classes // outputs
        kernel = np.zeros(shape, np.float32)
        kernel[shape[0] // 2, shape[1] // 2] = same * classes / outputs
        if max(inputs, outputs) == classes:
            return jnp.asarray(kernel, dtype)
        random = noise * classes / outputs * jax.random.normal(key, shape, dtype)
        return jnp.where(kernel > 0, jnp.asarray(kernel, dtype), random)

    return init


class Context(nn.Module):
    """Scores (B,h,w,C) to scores of the same shape, each of which sees 67 x 67 of them.

    multiples: of C, the channels of the seven dilated 3x3 convolutions, each cut at 0; a 1x1 convolution follows. start:
    "identity" or "random".
    """

    multiples: Sequence[int]
    start: str = "identity"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        classes = x.shape[-1]
        for i, (multiple, dilation) in enumerate(zip(self.multiples, DILATIONS), 1):
            x = nn.relu(self._conv(x, classes, multiple * classes, 3, dilation, f"conv{i}"))
        return self._conv(x, classes, classes, 1, 1, "logits")

    def _conv(self, x, classes, outputs, kernel, dilation, name):
        own = {"kernel_init": identity(classes, x.shape[-1], outputs)} if self.start == "identity" else {}
        return Conv(outputs, kernel, dilation=dilation, **own, name=name)(x)


class Dilated(nn.Module):
    """`logits` (B,H,W,num_classes) at the size of the canvas; `front_logits` (B,h,w,num_classes) at stride 8; the trunk's maps."""

    trunk: VGG
    num_classes: int
    context: str = "basic"
    context_init: str = "identity"
    fc: int = 4096
    fc6_kernel: int = 7
    dropout: float = 0.5

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x, trunk = network_input(batch), self.trunk
        canvas, stride, margin = x.shape[1:3], *self.reach()
        sizes = tuple(-(-side // stride) * stride + 2 * margin for side in canvas)
        maps = trunk(mirror(x, batch["image_size"], (margin, margin), sizes), train)
        y = maps[f"c{len(trunk.depths)}"]
        for name, kernel, dilation in (("fc6", self.fc6_kernel, 4), ("fc7", 1, 1)):
            pad = dilation * (kernel - 1) // 2 * trunk.same
            bias = trunk.norm == "none"
            y = Conv(self.fc, kernel, padding=pad, dilation=dilation, bias=bias, dtype=trunk.dtype, name=name)(y)
            y = nn.relu(Norm(trunk.norm, axis=trunk.axis, dtype=trunk.dtype, name=f"{name}_norm")(y, train))
            y = nn.Dropout(self.dropout, deterministic=not train)(y)
        init = nn.initializers.normal(0.001)
        scores = front = Conv(self.num_classes, 1, kernel_init=init, name="score")(y.astype(jnp.float32))
        if self.context != "none":
            scores = Context(CONTEXTS[self.context], self.context_init, name="context")(scores)
        logits = Upscore(stride, False, name="upscore")(scores)[:, stride // 2 :, stride // 2 :]
        return {**maps, "front_logits": front, "logits": logits[:, : canvas[0], : canvas[1]]}

    def reach(self) -> tuple[int, int]:
        """(stride of the scores, pixels on every side of its own that convolutions without padding need)."""
        here = self.trunk.geometry()[f"c{len(self.trunk.depths)}"]
        here = here.conv(4 * (self.fc6_kernel - 1) + 1, 1, 2 * (self.fc6_kernel - 1) * self.trunk.same)
        return here.stride, int(here.start - (here.stride - 1) / 2)


def dilated(
    num_classes: int,
    context: str = "basic",
    context_init: str = "identity",
    padding: str = "mirror",
    depths: Sequence[int] = VGG16[0],
    widths: Sequence[int] = VGG16[1],
    fc: int = 4096,
    fc6_kernel: int = 7,
    dropout: float = 0.5,
    loss: Mapping[str, Any] | None = None,
    norm: str = "none",
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """The front end and its context module; the defaults are the paper's.

    context: "basic", "large" or "none", the front end alone. context_init: "identity" or "random". padding: "mirror", of
    the image before the first convolution alone, or "same", zeros at every convolution. The paper trains the front end
    first and the context module on it, by `config.stages` with `init`: begun together, scores are near 0 when the module's
    first updates cut them off, and classes stay lost.
    """
    for option, value, known in (
        ("context", context, tuple(CONTEXTS)),
        ("context_init", context_init, ("identity", "random")),
        ("padding", padding, ("mirror", "same")),
    ):
        if value not in known:
            raise ValueError(f"{option} {value!r} is not one of {', '.join(known)}.")
    same = padding == "same"
    common = dict(norm=norm, axis=axis, remat=remat, dtype=dtype)
    trunk = VGG(tuple(depths), tuple(widths), int(same), **common, same=same, dilated=True)
    model = Dilated(trunk, num_classes, context, context_init, fc, fc6_kernel, dropout)
    return segmenter("dilated", model, loss)
