"""A dense detector: two heads on every level of a feature pyramid, and an opinion about every anchor."""

import functools
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
            heads = scores, found["deltas"], batch["image_size"]
            outputs |= detect(anchors, *heads, decode=self.decode, logits=found["logits"], **self.options)
        return {**maps, **pyramid, **outputs}

    def _anchors(self, canvas, shapes):
        strides = [(canvas[0] // height, canvas[1] // width) for height, width in shapes]
        return pyramid_anchors(self.sizes, self.ratios, shapes, strides)


def dense_detector(
    class_outputs: Mapping[str, tuple[int, float]],
    box_outputs: Mapping[str, tuple[int, float]],
    anchor_sizes: Sequence[Sequence[float]],
    anchor_ratios: Sequence[float],
    decode: Callable[[jax.Array, jax.Array], jax.Array],
    score: Callable[[Mapping[str, jax.Array]], jax.Array],
    head_bias: bool,
    *,
    backbone: str = "resnet50_fpn",
    depths: Sequence[int] | None = None,
    block: str | None = None,
    widths: Sequence[int] = (64, 128, 256, 512),
    stem: str = "pool",
    stem_width: int = 64,
    norm: str = "frozen",
    fpn: int = 256,
    fpn_norm: str = "none",
    levels: Sequence[str] = ("c3", "c4", "c5"),
    extra: str = "p5",
    head_convs: int = 4,
    head_norm: str = "none",
    first_class: int = 1,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    candidates: int = 1000,
    detections: int = 100,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> DenseDetector:
    """A `DenseDetector` whose heads give `class_outputs` and `box_outputs`, see `Head`. The options:

    backbone: "resnet18_fpn" ... "resnet152_fpn"; `block`, `depths`, `widths`, `stem` override parts of it.
    norm, fpn_norm, head_norm: of the trunk, the pyramid, and the heads' convolutions ("group" or "none"); see `Norm`.
    levels: the trunk's maps that the pyramid begins with; extra: what it adds above, see `FPN`.
    first_class: the first channel that is predicted. Channel 0 is the background's, which no anchor ever learns and
      torchvision predicts as any other: its weights with `first_class=0` give its numbers.
    candidates: pairs of anchor and class a level that go into NMS.
    Raises ValueError for another backbone or extra level, and where `anchor_sizes` has not one tuple a level, all equally
    long.
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
    own = {"depths": depths and tuple(depths), "block": block}
    options = {option: value for option, value in own.items() if value is not None}
    options |= {"widths": tuple(widths), "stem": stem, "stem_width": stem_width, "norm": norm}
    head = functools.partial(
        Head,
        anchors=len(anchor_sizes[0]) * len(anchor_ratios),
        features=fpn,
        convs=head_convs,
        norm=head_norm,
        bias=head_bias,
        dtype=dtype,
    )
    return DenseDetector(
        trunk=trunk(name, axis=axis, remat=remat, dtype=dtype, **options),
        fpn=FPN(tuple(levels), fpn, fpn_norm, extra, axis=axis, dtype=dtype),
        class_head=head(class_outputs),
        box_head=head(box_outputs),
        sizes=tuple(map(tuple, anchor_sizes)),
        ratios=tuple(anchor_ratios),
        decode=decode,
        score=score,
        options=dict(
            first_class=first_class,
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
            candidates=candidates,
            detections=detections,
        ),
    )
