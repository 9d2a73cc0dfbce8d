"""SSD300 and SSD512 (Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016) on VGG.

By torchvision's rules, or with `matching="bipartite"` and `clip_boxes=False` as published. `SSD`, `ssd_losses` and `detect`
serve any trunk; SSDlite uses them too.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.batch import real_rows
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.losses.box_regression import smooth_l1
from jaxvision.losses.mining import hard_negatives
from jaxvision.losses.reduction import total
from jaxvision.models.backbones.vgg import VGG16, Block
from jaxvision.models.detection.single_shot.detect import detect_by_class, predict
from jaxvision.ops import boxes as box_ops
from jaxvision.ops.default_boxes import default_boxes
from jaxvision.ops.images import normalize
from jaxvision.ops.matching import claim_best, claim_own, match
from jaxvision.ops.pool import max_pool

xavier = nn.initializers.xavier_uniform()
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
CAFFE_MEAN, CAFFE_STD = (0.48235, 0.45882, 0.40784), (1 / 255,) * 3
CLAIMS = {"torchvision": claim_best, "bipartite": claim_own}
# The authors' tables of sizes, in shares of the canvas: their code's whole percents, which the paper's formula only comes near.
FORMS = {
    "ssd300": dict(
        extras=((256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0)),
        ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        steps=(8, 16, 32, 64, 100, 300),
        scales=dict(
            coco=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
            voc=(0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05),
        ),
    ),
    "ssd512": dict(
        extras=((256, 512, 2, 1), *((128, 256, 2, 1),) * 3, (128, 256, 1, 1, 4)),
        ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        steps=(8, 16, 32, 64, 128, 256, 512),
        scales=dict(
            coco=(0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06),
            voc=(0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05),
        ),
    ),
}


class ConvNorm(nn.Module):
    """A convolution, its normalisation and a non-linearity. norm: the arguments of `Norm`."""

    features: int
    kernel: int
    norm: Mapping[str, Any]
    stride: int = 1
    padding: int | None = None
    dilation: int = 1
    groups: int = 1
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    kernel_init: Callable = xavier
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = Conv(
            self.features,
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            bias=self.norm["kind"] == "none",
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )(x)
        return self.activation(Norm(**self.norm, dtype=self.dtype, name="norm")(x, train))


class ReducedVGG(nn.Module):
    """Images (B,H,W,3), normalised, to VGG's maps "c1" .. "c5", and those that SSD detects on, "conv4" and "conv7".

    Each c is its block's output after the pool: strides 2, 4, 8, 16, 16, as the last pool is 3x3 at stride 1. "conv4" is the
    fourth block before its pool, divided at each cell by its length over the channels, times a learned factor for each
    channel. "conv7" is fc7, a 1x1 convolution on fc6, a 3x3 of that `dilation`; both have `fc` channels. A network of
    fewer blocks is counted from its end: of four, the first that is detected on is "conv3".
    """

    depths: Sequence[int] = VGG16[0]
    widths: Sequence[int] = VGG16[1]
    fc: int = 1024
    dilation: int = 6
    norm: str = "none"
    axis: str | None = None
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        maps, last = {}, len(self.depths)
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths), 1):
            bias = self.norm == "none"
            x = block(depth, width, 1, bias, self.norm, self.axis, self.dtype, name=f"block{stage}")(x, train)
            if stage == last - 1:
                scale = self.param(f"conv{stage}_scale", nn.initializers.constant(20.0), (width,))
                maps[f"conv{stage}"] = self.perturb(f"conv{stage}", _unit(x.astype(jnp.float32)) * scale)
            x = max_pool(x, 3, 1, 1) if stage == last else max_pool(x, 2, 2, ceil_mode=stage == last - 2)
            x = maps[f"c{stage}"] = self.perturb(f"c{stage}", x)
        layer = functools.partial(ConvNorm, self.fc, norm=dict(kind=self.norm, axis=self.axis), dtype=self.dtype)
        x = layer(3, dilation=self.dilation, name="fc6")(x, train)
        maps["conv7"] = self.perturb("conv7", layer(1, name="fc7")(x, train))
        return maps


def _unit(x: jax.Array) -> jax.Array:
    """x (..., C) of length 1, or 0; its gradient is finite everywhere."""
    return x * jax.lax.rsqrt(jnp.maximum((x**2).sum(-1, keepdims=True), 1e-24))


class Extras(nn.Module):
    """Maps "extra1", "extra2", ... beyond the trunk's: each a 1x1 and a 3x3 convolution on the one before.

    layers: (channels between the two, channels, stride, padding) of each; a fifth number is a kernel other than 3.
    """

    layers: Sequence[Sequence[int]]
    norm: Mapping[str, Any]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        maps, layer = {}, functools.partial(ConvNorm, norm=self.norm, dtype=self.dtype)
        for i, (between, features, stride, padding, *kernel) in enumerate(self.layers, 1):
            x = layer(between, 1, name=f"reduce{i}")(x, train)
            x = layer(features, *(kernel or (3,)), stride=stride, padding=padding, name=f"expand{i}")(x, train)
            x = maps[f"extra{i}"] = self.perturb(f"extra{i}", x)
        return maps


class Head(nn.Module):
    """The maps that are detected on to (B,A,outputs) float32, by a convolution each; `cells`: boxes at a cell of each."""

    cells: Sequence[int]
    outputs: int

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> jax.Array:
        convs = [Conv(n * self.outputs, 3, kernel_init=xavier, name=f"level{i}") for i, n in enumerate(self.cells)]
        return jnp.concatenate([conv(x).reshape(len(x), -1, self.outputs) for conv, x in zip(convs, maps)], 1)


class SSD(nn.Module):
    """What the heads say of every default box, and with train=False what is detected.

    outputs: `anchors` (A,4), `logits` (B,A,num_classes), `deltas` (B,A,4), the maps of the trunk and beyond, and the
      detections as `jaxvision.batch` names them, which no ground truth touches.
    levels: the trunk's maps that are detected on; `extras` adds its own behind them, from the last. class_head, box_head:
      (maps, train) to (B,A,...). scales, ratios, steps, clip_boxes: of `default_boxes`. options: of `detect`.
    """

    trunk: nn.Module
    levels: Sequence[str]
    extras: nn.Module
    class_head: nn.Module
    box_head: nn.Module
    scales: Sequence[float]
    ratios: Sequence[Sequence[float]]
    steps: Sequence[float] | None
    mean: Sequence[float]
    std: Sequence[float]
    options: Mapping[str, Any]
    clip_boxes: bool = True

    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x = normalize(batch["image"], batch["image_size"], self.mean, self.std)
        maps = self.trunk(x, train)
        extras = self.extras(maps[self.levels[-1]], train)
        pyramid = [m.astype(jnp.float32) for m in (*(maps[level] for level in self.levels), *extras.values())]
        shapes = [m.shape[1:3] for m in pyramid]
        boxes = default_boxes(shapes, x.shape[1:3], self.scales, self.ratios, self.steps, self.clip_boxes)
        outputs = {
            "anchors": jnp.array(boxes),
            "logits": self.class_head(pyramid, train),
            "deltas": self.box_head(pyramid, train),
        }
        if not train:
            outputs |= detect(**outputs, image_size=batch["image_size"], **self.options)
        return {**maps, **extras, **outputs}


def ssd_losses(
    outputs: Mapping[str, jax.Array],
    batch: Mapping[str, jax.Array],
    *,
    iou_threshold: float = 0.5,
    negative_ratio: float = 3.0,
    min_negatives: int = 0,
    matching: str = "torchvision",
) -> dict:
    """`class` and `box`, both over the number of positive anchors in the batch.

    An anchor is positive where a ground truth overlaps it by `iou_threshold` or has it for its best (`claim_best`; with
    matching "bipartite" each has one of its own, `claim_own`). The classes are
    learned on the positives and the hardest negatives, `negative_ratio` for each positive of their image and at least
    `min_negatives`. That is 0 as published, and an image without objects then teaches nothing.
    """
    anchors = outputs["anchors"]

    def assign(boxes, valid, classes):
        iou = box_ops.iou(boxes, anchors)
        matches = CLAIMS[matching](match(iou, valid, iou_threshold, iou_threshold), iou, valid)
        positive, rows = matches >= 0, jnp.maximum(matches, 0)
        return positive, jnp.where(positive, classes[rows], 0), box_ops.encode(boxes[rows], anchors, BOX_WEIGHTS)

    positive, labels, targets = jax.vmap(assign)(batch["boxes"], batch["valid"], batch["classes"])
    errors = -jnp.take_along_axis(jax.nn.log_softmax(outputs["logits"]), labels[..., None], -1)[..., 0]
    negative = hard_negatives(errors, positive, negative_ratio, min_negatives)
    real = real_rows(batch)
    if real is not None:
        positive, negative = positive & real[:, None], negative & real[:, None]
    box, count = smooth_l1(outputs["deltas"], targets, positive, beta=1.0)
    return {"class": (total(errors, positive | negative)[0], count), "box": (box, count)}


def detect(anchors, logits, deltas, image_size, **options) -> dict[str, jax.Array]:
    """What `detect_by_class` makes of the heads' outputs, (B,A,num_classes) and (B,A,4): see there for the options.

    Boxes that are no candidates are left out in torchvision too.
    """

    def locate(deltas, size):
        return box_ops.clip(box_ops.decode(deltas, anchors, BOX_WEIGHTS), size)

    boxes, scores = jax.vmap(locate)(deltas, image_size), jax.nn.softmax(logits)[..., 1:]
    return detect_by_class(boxes, scores, logits=logits[..., 1:], **options)


def ssd(
    num_classes: int,
    form: str = "ssd300",
    depths: Sequence[int] = VGG16[0],
    widths: Sequence[int] = VGG16[1],
    fc: int = 1024,
    dilation: int = 6,
    extras: Sequence[Sequence[int]] | None = None,
    scales: Sequence[float] | str = "coco",
    ratios: Sequence[Sequence[float]] | None = None,
    steps: Sequence[float] | str | None = "published",
    clip_boxes: bool = True,
    mean: Sequence[float] = CAFFE_MEAN,
    std: Sequence[float] = CAFFE_STD,
    iou_threshold: float = 0.5,
    negative_ratio: float = 3.0,
    min_negatives: int = 0,
    matching: str = "torchvision",
    score_threshold: float = 0.01,
    nms_threshold: float = 0.45,
    candidates: int = 400,
    detections: int = 200,
    norm: str = "none",
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """SSD; the defaults are torchvision's SSD300 on VGG-16, for a canvas of 300 x 300 that the picture fills, its shape not kept.

    form: "ssd300" or "ssd512", which wants 512 x 512; extras, ratios, scales and steps override parts of it.
    depths, widths: of VGG's blocks, see `ReducedVGG`. extras: see `Extras`. scales, ratios, steps, clip_boxes: of
    `default_boxes`; scales "coco" or "voc" are the published tables for that set, steps None follows the canvas.
    mean, std: of the colours in 0..1; published weights want 0..255 less a mean, so 1/255. negative_ratio, min_negatives,
    matching ("torchvision" or "bipartite"): see `ssd_losses`. candidates: boxes a class that NMS sees. norm: of the trunk and
    the extras. Raises ValueError for another form, scales or matching, and for numbers of maps that do not fit each other.
    """
    for option, value, known in (
        ("form", form, FORMS),
        ("scales", scales if isinstance(scales, str) else "voc", FORMS["ssd300"]["scales"]),
        ("steps", steps if isinstance(steps, str) else "published", ("published",)),
        ("matching", matching, CLAIMS),
    ):
        if value not in known:
            raise ValueError(f"SSD: {option} {value!r} is not one of {', '.join(known)}.")
    published = FORMS[form]
    extras = published["extras"] if extras is None else extras
    ratios = published["ratios"] if ratios is None else ratios
    scales = published["scales"][scales] if isinstance(scales, str) else scales
    steps = published["steps"] if steps == "published" else steps
    if not len(scales) - 1 == len(ratios) == len(extras) + 2 or (steps is not None and len(steps) != len(ratios)):
        raise ValueError(
            f"SSD detects on {len(extras) + 2} maps: that many ratios and steps, and one scale more, are needed; "
            f"got {len(ratios)} ratios, {'no' if steps is None else len(steps)} steps and {len(scales)} scales."
        )
    cells = tuple(2 + 2 * len(level) for level in ratios)
    model = SSD(
        trunk=ReducedVGG(tuple(depths), tuple(widths), fc, dilation, norm, axis, remat, dtype),
        levels=(f"conv{len(depths) - 1}", "conv7"),
        extras=Extras(tuple(map(tuple, extras)), dict(kind=norm, axis=axis), dtype),
        class_head=Head(cells, num_classes),
        box_head=Head(cells, 4),
        scales=tuple(scales),
        ratios=tuple(map(tuple, ratios)),
        steps=None if steps is None else tuple(steps),
        mean=tuple(mean),
        std=tuple(std),
        options=dict(
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
            candidates=candidates,
            detections=detections,
        ),
        clip_boxes=clip_boxes,
    )
    losses = functools.partial(
        ssd_losses,
        iou_threshold=iou_threshold,
        negative_ratio=negative_ratio,
        min_negatives=min_negatives,
        matching=matching,
    )
    return Architecture("ssd", model, losses, predict, "detection")
