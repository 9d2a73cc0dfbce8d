"""A dense detector: two heads on every level of a feature pyramid, and an opinion about every anchor."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxvision.layers.fpn import FPN
from jaxvision.models.backbones.resnet import IMAGENET_MEAN, IMAGENET_STD, ResNet, trunk
from jaxvision.models.detection.single_shot.detect import detect
from jaxvision.models.detection.single_shot.head import Head
from jaxvision.ops.anchors import pyramid_anchors
from jaxvision.ops.images import normalize

EXTRA_LEVELS = {"none": 0, "pool": 1}  # any other name: 2, see FPN


class DenseDetector(nn.Module):
    """What the heads say of every anchor, and with train=False what is detected.

    outputs: `anchors` (A,4), what the heads name, (B,A,...), the maps of trunk and pyramid, and the detections as
      `jaxvision.batch` names them, which no ground truth touches.
    sizes, ratios: of the anchors, a tuple of sizes a level. decode: (deltas, anchors) to boxes. score: (the heads' outputs
      of a level) to (B,A,K) in 0..1. options: the others of `detect`.
    """

    trunk: ResNet
    fpn: FPN
    class_head: Head
    box_head: Head
    sizes: Sequence[Sequence[float]]
    ratios: Sequence[float]
    decode: Callable[[jax.Array, jax.Array], jax.Array]
    score: Callable[[Mapping[str, jax.Array]], jax.Array]
    options: Mapping[str, Any]

    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x = normalize(batch["image"], batch["image_size"], IMAGENET_MEAN, IMAGENET_STD)
        maps = self.trunk(x, train)
        pyramid = self.fpn(maps, train)
        levels = list(pyramid.values())
        found = self.class_head(levels) | self.box_head(levels)
        anchors = self._anchors(x.shape[1:3], [level.shape[1:3] for level in levels])
        outputs = {name: jnp.concatenate(values, 1) for name, values in found.items()}
        outputs["anchors"] = jnp.array(np.concatenate(anchors))
        if not train:
            scores = [self.score(dict(zip(found, values))) for values in zip(*found.values())]
            anchors = [jnp.array(level) for level in anchors]
            outputs |= detect(anchors, scores, found["deltas"], batch["image_size"], decode=self.decode, **self.options)
        return {**maps, **pyramid, **outputs}

    def _anchors(self, canvas, shapes):
        strides = [(canvas[0] // height, canvas[1] // width) for height, width in shapes]
        return pyramid_anchors(self.sizes, self.ratios, shapes, strides)


def pyramid(
    backbone: str,
    levels: Sequence[str],
    extra: str,
    anchor_sizes: Sequence[Sequence[float]],
    *,
    fpn: int,
    fpn_norm: str,
    axis: str | None,
    dtype: Any,
    **options,
) -> tuple[ResNet, FPN]:
    """Trunk and pyramid of a `backbone` like "resnet50_fpn"; `options` of the trunk that are None are its own.

    Raises ValueError for another backbone, and where `anchor_sizes` has not one tuple a level, all equally long.
    """
    name, _, kind = backbone.partition("_")
    if kind != "fpn":
        raise ValueError(f'backbone {backbone!r} should read "resnet50_fpn" or another ResNet with "_fpn".')
    known = ("none", "pool", levels[-1], f"p{levels[-1][1:]}")
    if extra not in known:
        raise ValueError(f"extra {extra!r} is not one of {', '.join(known)}.")
    count = len(levels) + EXTRA_LEVELS.get(extra, 2)
    if len(anchor_sizes) != count or len({len(sizes) for sizes in anchor_sizes}) > 1:
        raise ValueError(f"anchor_sizes needs {count} equally long tuples, one a level, got {anchor_sizes}.")
    options = {option: value for option, value in options.items() if value is not None}
    neck = FPN(tuple(levels), fpn, fpn_norm, extra, axis=axis, dtype=dtype)
    return trunk(name, axis=axis, dtype=dtype, **options), neck
