"""SSDlite (Sandler et al., "MobileNetV2", CVPR 2018) on MobileNetV3 (Howard et al., ICCV 2019), by torchvision's rules.

SSD whose 3x3 convolutions beyond the trunk are depthwise.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.models.backbones import mobilenet_v3
from jaxvision.models.detection.single_shot.detect import predict
from jaxvision.models.detection.ssd import SSD, ConvNorm, ssd_losses
from jaxvision.ops.default_boxes import linear_scales

normal = nn.initializers.normal(0.03)


class LiteExtras(nn.Module):
    """Maps "extra1", "extra2", ... of these `widths`, each at half the size of the one before."""

    widths: Sequence[int]
    norm: Mapping[str, Any]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        maps, layer = {}, _layers(self.norm, self.dtype)
        for i, width in enumerate(self.widths, 1):
            x = layer(width // 2, 1, name=f"reduce{i}")(x, train)
            x = layer(width // 2, 3, stride=2, padding=1, groups=width // 2, name=f"depthwise{i}")(x, train)
            x = layer(width, 1, name=f"expand{i}")(x, train)
            x = maps[f"extra{i}"] = self.perturb(f"extra{i}", x)
        return maps


class LiteHead(nn.Module):
    """The maps that are detected on to (B,A,outputs) float32; `cells`: boxes at a cell of each."""

    cells: Sequence[int]
    outputs: int
    norm: Mapping[str, Any]

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> jax.Array:
        found, layer = [], _layers(self.norm, jnp.float32)
        for i, (x, cell) in enumerate(zip(maps, self.cells)):
            x = layer(x.shape[-1], 3, groups=x.shape[-1], name=f"depthwise{i}")(x, train)
            x = Conv(cell * self.outputs, 1, kernel_init=normal, name=f"level{i}")(x)
            found.append(x.reshape(len(x), -1, self.outputs))
        return jnp.concatenate(found, 1)


def _layers(norm, dtype):
    return functools.partial(ConvNorm, norm=norm, activation=nn.relu6, kernel_init=normal, dtype=dtype)


def ssdlite(
    num_classes: int,
    trunk_name: str = "mobilenet_v3_large",
    width: float = 1.0,
    reduce_tail: bool = True,
    extras: Sequence[int] = (512, 256, 256, 128),
    scales: Sequence[float] = linear_scales(0.2, 0.95, 6),
    ratios: Sequence[Sequence[float]] = ((2, 3),) * 6,
    mean: Sequence[float] = (0.5,) * 3,
    std: Sequence[float] = (0.5,) * 3,
    iou_threshold: float = 0.5,
    negative_ratio: float = 3.0,
    min_negatives: int = 0,
    score_threshold: float = 0.001,
    nms_threshold: float = 0.55,
    candidates: int = 300,
    detections: int = 300,
    norm: str = "batch",
    eps: float = 1e-3,
    momentum: float = 0.97,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """SSDlite; the defaults are SSDlite320, which wants a canvas of 320 x 320 that the picture fills, its shape not kept.

    trunk_name, width: of the MobileNetV3. reduce_tail: half its channels from c5 on, as published; torchvision leaves them
    whole where the trunk begins with weights of ImageNet. extras: channels of the maps beyond it. scales, ratios: of the
    default boxes. norm, eps, momentum: everywhere, the latter as flax counts it. mean, std: of the colours in 0..1.
    negative_ratio, min_negatives: see `ssd_losses`. candidates: boxes a class that NMS sees.
    """
    if not len(scales) - 1 == len(ratios) == len(extras) + 2:
        raise ValueError(
            f"SSDlite detects on {len(extras) + 2} maps: that many ratios and one scale more are needed; "
            f"got {len(ratios)} ratios and {len(scales)} scales."
        )
    norms = dict(kind=norm, eps=eps, momentum=momentum, axis=axis)
    cells = tuple(2 + 2 * len(level) for level in ratios)
    model = SSD(
        trunk=mobilenet_v3.trunk(
            trunk_name,
            width=width,
            reduce_tail=reduce_tail,
            norm=norm,
            eps=eps,
            momentum=momentum,
            axis=axis,
            remat=remat,
            dtype=dtype,
        ),
        levels=("c4_expanded", "final"),
        extras=LiteExtras(tuple(extras), norms, dtype),
        class_head=LiteHead(cells, num_classes, norms),
        box_head=LiteHead(cells, 4, norms),
        scales=tuple(scales),
        ratios=tuple(map(tuple, ratios)),
        steps=None,
        mean=tuple(mean),
        std=tuple(std),
        options=dict(
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
            candidates=candidates,
            detections=detections,
        ),
    )
    losses = functools.partial(
        ssd_losses, iou_threshold=iou_threshold, negative_ratio=negative_ratio, min_negatives=min_negatives
    )
    return Architecture("ssdlite", model, losses, predict, "detection")
