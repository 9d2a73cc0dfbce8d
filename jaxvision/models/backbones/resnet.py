"""ResNet (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016), as a trunk and as a classifier.

Departure: a bottleneck's stride is in its 3x3 convolution ("v1.5", as torchvision has it), not in the first 1x1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import IMAGENET_MEAN as IMAGENET_MEAN
from jaxvision.models.backbones.classification import IMAGENET_STD as IMAGENET_STD
from jaxvision.models.backbones.classification import classifier, network_input
from jaxvision.ops.pool import max_pool

# name -> fields of ResNet
TRUNKS = {
    "resnet18": dict(block="basic", depths=(2, 2, 2, 2)),
    "resnet34": dict(block="basic", depths=(3, 4, 6, 3)),
    "resnet50": dict(block="bottleneck", depths=(3, 4, 6, 3)),
    "resnet101": dict(block="bottleneck", depths=(3, 4, 23, 3)),
    "resnet152": dict(block="bottleneck", depths=(3, 8, 36, 3)),
    "resnext50_32x4d": dict(block="bottleneck", depths=(3, 4, 6, 3), groups=32, width_per_group=4),
    "wide_resnet50_2": dict(block="bottleneck", depths=(3, 4, 6, 3), width_per_group=128),
}
EXPANSION = {"basic": 1, "bottleneck": 4}


class Block(nn.Module):
    """A residual block of convolutions: 3x3, 3x3 ("basic") or 1x1, 3x3, 1x1 ("bottleneck").

    width: of the stage; a bottleneck has inner convolutions of `inner` channels, and its 3x3 has groups.
    """

    kind: str
    width: int
    inner: int
    groups: int
    stride: int
    dilation: int
    norm: str
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        out = self.width * EXPANSION[self.kind]
        convs = [(3, self.width, self.stride, 1), (3, out, 1, 1)]
        if self.kind == "bottleneck":
            convs = [(1, self.inner, 1, 1), (3, self.inner, self.stride, self.groups), (1, out, 1, 1)]

        def norm(name):
            return Norm(self.norm, axis=self.axis, dtype=self.dtype, name=name)

        y = x
        for i, (kernel, features, stride, groups) in enumerate(convs, 1):
            y = Conv(
                features,
                kernel,
                stride,
                dilation=self.dilation,
                groups=groups,
                bias=self.norm == "none",
                dtype=self.dtype,
                name=f"conv{i}",
            )(y)
            y = norm(f"norm{i}")(y, train)
            y = nn.relu(y) if i < len(convs) else y
        if x.shape != y.shape:
            x = Conv(out, 1, self.stride, bias=self.norm == "none", dtype=self.dtype, name="shortcut")(x)
            x = norm("shortcut_norm")(x, train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Images (B,H,W,3), normalised, to maps {"c1": stride 2, "c2": 4, "c3": 8, "c4": 16, "c5": 32}.

    widths: of the stages' inner convolutions; a bottleneck has int(width * width_per_group / 64) * groups channels there,
      its 3x3 in `groups` (Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017).
    stem: "pool" is the published 7x7 at stride 2 and a max-pool; "stride" is two 3x3 at stride 2, which suits small
      pictures and is quick on a CPU.
    remat: recompute blocks in the backward pass.
    dilated: whether c3, c4 and c5 dilate their 3x3 convolutions in place of their stride of 2; the first block of such a
      stage dilates as the stage before it (torchvision's replace_stride_with_dilation).
    groups, width_per_group and dilated are of bottlenecks; basic blocks raise ValueError.
    """

    block: str = "bottleneck"
    depths: Sequence[int] = (3, 4, 6, 3)
    widths: Sequence[int] = (64, 128, 256, 512)
    stem: str = "pool"
    stem_width: int = 64
    norm: str = "batch"
    axis: str | None = None
    remat: bool = False
    dtype: Any = jnp.float32
    groups: int = 1
    width_per_group: int = 64
    dilated: Sequence[bool] = (False, False, False)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        if self.stem not in ("pool", "stride"):
            raise ValueError(f'stem {self.stem!r} is not one of "pool", "stride".')
        if self.block == "basic" and ((self.groups, self.width_per_group) != (1, 64) or any(self.dilated)):
            raise ValueError('groups, width_per_group and dilated are of "bottleneck" blocks, not "basic" ones.')
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block

        def conv_norm(x, name, features, kernel):
            x = Conv(features, kernel, 2, bias=self.norm == "none", dtype=self.dtype, name=name)(x)
            return nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"{name}_norm")(x, train))

        x = conv_norm(x, "stem", self.stem_width, 7 if self.stem == "pool" else 3)
        maps = {"c1": self.perturb("c1", x)}
        if self.stem == "pool":
            x = max_pool(maps["c1"], 3, 2, 1)
        else:
            x = conv_norm(maps["c1"], "stem2", self.widths[0] * EXPANSION[self.block], 3)
        dilation = 1
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths), 2):
            inner = int(width * self.width_per_group / 64) * self.groups
            dilated = stage > 2 and self.dilated[stage - 3]
            for i in range(depth):
                stride = 2 if stage > 2 and i == 0 and not dilated else 1
                x = block(
                    self.block,
                    width,
                    inner,
                    self.groups,
                    stride,
                    dilation,
                    self.norm,
                    self.axis,
                    self.dtype,
                    name=f"c{stage}_block{i}",
                )(x, train)
                dilation *= 2 if dilated and i == 0 else 1
            x = maps[f"c{stage}"] = self.perturb(f"c{stage}", x)
        return maps


def trunk(name: str = "resnet50", **options) -> ResNet:
    """The ResNet of that name; `options` are fields of `ResNet` and override it. Raises ValueError for an unknown name."""
    if name not in TRUNKS:
        raise ValueError(f"There is no trunk {name!r}; known: {', '.join(TRUNKS)}.")
    return ResNet(**{**TRUNKS[name], **options})


class ResNetClassifier(nn.Module):
    """`logits` (B, num_classes) from the mean of c5, beside the trunk's maps."""

    trunk: ResNet
    num_classes: int

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        maps = self.trunk(network_input(batch), train)
        pooled = maps["c5"].astype(jnp.float32).mean((1, 2))
        return {**maps, "logits": nn.Dense(self.num_classes, name="head")(pooled)}


def resnet(
    num_classes: int,
    trunk_name: str = "resnet50",
    depths: Sequence[int] | None = None,
    widths: Sequence[int] = (64, 128, 256, 512),
    stem: str = "pool",
    stem_width: int = 64,
    norm: str = "batch",
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
    loss: str | None = None,
    multi_label: bool = False,
) -> Architecture:
    """A ResNet classifier; `trunk_name`, one of `TRUNKS`, sets block, depths and groups; `depths` overrides the second.

    loss, multi_label: see `classifier`.
    """
    options = {"widths": tuple(widths), "stem": stem, "stem_width": stem_width}
    options |= {"norm": norm, "axis": axis, "remat": remat, "dtype": dtype}
    if depths is not None:
        options["depths"] = tuple(depths)
    model = ResNetClassifier(trunk(trunk_name, **options), num_classes)
    return classifier("resnet", model, loss, multi_label)
