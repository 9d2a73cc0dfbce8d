"""Mask R-CNN (He et al., ICCV 2017) on a ResNet with a feature pyramid."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.batch import real_rows
from jaxvision.layers.fpn import FPN
from jaxvision.models.backbones.resnet import IMAGENET_MEAN, IMAGENET_STD, ResNet, trunk
from jaxvision.models.detection.two_stage.roi_heads import (
    BoxHead,
    MaskHead,
    Pooler,
    detect,
    mask_losses,
    of_class,
    roi_losses,
    sample_rois,
)
from jaxvision.models.detection.two_stage.rpn import RPN, rpn_losses
from jaxvision.ops.images import normalize


class MaskRCNN(nn.Module):
    """RPN, box head and mask head on a pyramid; see `jaxvision.batch` for the names of what comes out.

    With `boxes` in the batch the heads run on RoIs sampled from the proposals and the ground truth, which `losses` reads.
    With train=False they run on the proposals and then on the detections, which `predict` reads and no ground truth touches.
    roi_levels: the pyramid's maps that RoIs are pooled from. samples, positive_fraction: of the sampled RoIs.
    max_positives: the mask head sees the first so many of them; `mask_overflow` (B,) counts the positives beyond.
    mask_size: side of the pooled map, half that of the mask.
    """

    trunk: ResNet
    fpn: FPN
    rpn: RPN
    pooler: Pooler
    mask_pooler: Pooler
    box_head: BoxHead
    mask_head: MaskHead
    roi_levels: Sequence[str]
    samples: int
    positive_fraction: float
    max_positives: int
    box_size: int
    mask_size: int
    score_threshold: float
    nms_threshold: float
    detections: int
    candidates: int

    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        image_size = batch["image_size"]
        x = normalize(batch["image"], image_size, IMAGENET_MEAN, IMAGENET_STD)
        maps = self.trunk(x, train)
        pyramid = self.fpn(maps, train)
        rpn_maps = list(pyramid.values())[: len(self.rpn.sizes)]
        outputs = self.rpn(rpn_maps, image_size, x.shape[1:3], train)
        roi_maps = [pyramid[level] for level in self.roi_levels]
        if "boxes" in batch:
            key = self.make_rng("sampler") if train else jax.random.key(0)
            outputs |= self._learn(outputs, roi_maps, batch, key, train)
        if not train:
            outputs |= self._detect(outputs, roi_maps, image_size)
        return {**maps, **pyramid, **outputs}

    def _learn(self, outputs, roi_maps, batch, key, train):
        anchor_key, roi_key = jax.random.split(key)
        images = len(batch["boxes"])
        found = self.rpn.sample(outputs["anchors"], batch, jax.random.split(anchor_key, images))
        found |= sample_rois(
            outputs["proposals"],
            outputs["proposals_valid"],
            batch,
            jax.random.split(roi_key, images),
            samples=self.samples,
            positive_fraction=self.positive_fraction,
        )
        logits, deltas = self.box_head(self.pooler(roi_maps, found["rois"], self.box_size), train)
        found |= {"roi_logits": logits, "roi_deltas": deltas}
        found["mask_overflow"] = (found["roi_classes"][:, self.max_positives :] > 0).sum(1)
        positives = found["rois"][:, : self.max_positives]
        found["mask_logits"] = self.mask_head(self.mask_pooler(roi_maps, positives, self.mask_size), train)
        return found

    def _detect(self, outputs, roi_maps, image_size):
        proposals, valid = outputs["proposals"], outputs["proposals_valid"]
        logits, deltas = self.box_head(self.pooler(roi_maps, proposals, self.box_size), False)
        found = detect(
            proposals,
            valid,
            logits,
            deltas,
            image_size,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            detections=self.detections,
            candidates=self.candidates,
        )
        masks = self.mask_head(self.mask_pooler(roi_maps, found["boxes"], self.mask_size), False)
        found["masks"] = jax.nn.sigmoid(of_class(jnp.moveaxis(masks, -1, 2), found["classes"]))
        return found


def losses(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict:
    """rpn_objectness, rpn_box, roi_class, roi_box and mask."""
    real = real_rows(batch)
    return rpn_losses(outputs, batch, real) | roi_losses(outputs, batch, real) | mask_losses(outputs, batch, real)


def predict(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """boxes, classes, scores, masks, valid and overflow, best first."""
    return {name: outputs[name] for name in ("boxes", "classes", "scores", "masks", "valid", "overflow")}


def mask_rcnn(
    num_classes: int,
    backbone: str = "resnet50_fpn",
    depths: Sequence[int] | None = None,
    block: str | None = None,
    widths: Sequence[int] = (64, 128, 256, 512),
    stem: str = "pool",
    stem_width: int = 64,
    norm: str = "frozen",
    fpn: int = 256,
    fpn_norm: str = "none",
    head_norm: str = "none",
    anchor_sizes: Sequence[Sequence[float]] = ((32,), (64,), (128,), (256,), (512,)),
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    rpn_samples: int = 256,
    pre_nms: tuple[int, int] = (2000, 1000),
    post_nms: tuple[int, int] = (2000, 1000),
    roi_levels: Sequence[str] = ("p2", "p3", "p4", "p5"),
    canonical_size: float = 224,
    samples: int = 512,
    positive_fraction: float = 0.25,
    max_positives: int | None = None,
    sampling_ratio: int = 2,
    mask_sampling_ratio: int = 2,
    aligned: bool = True,
    roi_impl: str = "gather",
    box_convs: Sequence[int] = (),
    box_features: int = 1024,
    box_fcs: int = 2,
    mask_convs: Sequence[int] = (256, 256, 256, 256),
    class_agnostic: bool = False,
    box_size: int = 7,
    mask_size: int = 14,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    detections: int = 100,
    candidates: int = 2000,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """Mask R-CNN; the defaults are those of the paper's R50-FPN in torchvision's form.

    backbone: "resnet18_fpn" ... "resnet152_fpn"; `block`, `depths`, `widths`, `stem` override parts of it.
    norm, fpn_norm, head_norm: of the trunk, the pyramid, and the heads' convolutions; see `Norm`.
    anchor_sizes: one tuple a level, p2 first; p6 is the level above p5. Proposals come from these levels.
    pre_nms, post_nms: (training, otherwise).
    """
    name, _, pyramid = backbone.partition("_")
    if pyramid != "fpn":
        raise ValueError(f'backbone {backbone!r} should read "resnet50_fpn" or another ResNet with "_fpn".')
    options = {"widths": tuple(widths), "stem": stem, "stem_width": stem_width, "norm": norm}
    options |= {"depths": tuple(depths)} if depths is not None else {}
    options |= {"block": block} if block is not None else {}
    strides = [2 ** int(level[1:]) for level in roi_levels]
    if not 1 <= len(anchor_sizes) <= 5 or len({len(sizes) for sizes in anchor_sizes}) > 1:
        raise ValueError(
            f"anchor_sizes needs equally long tuples for p2 .. p6 or the first of them, got {anchor_sizes}."
        )
    model = MaskRCNN(
        trunk=trunk(name, axis=axis, remat=remat, dtype=dtype, **options),
        fpn=FPN(features=fpn, norm=fpn_norm, axis=axis, dtype=dtype),
        rpn=RPN(
            tuple(map(tuple, anchor_sizes)),
            tuple(anchor_ratios),
            fpn,
            samples=rpn_samples,
            pre_nms=tuple(pre_nms),
            post_nms=tuple(post_nms),
        ),
        pooler=Pooler(strides, sampling_ratio, aligned, roi_impl, canonical_size),
        mask_pooler=Pooler(strides, mask_sampling_ratio, aligned, roi_impl, canonical_size),
        box_head=BoxHead(num_classes, box_features, tuple(box_convs), box_fcs, head_norm, axis, class_agnostic),
        mask_head=MaskHead(num_classes, tuple(mask_convs), head_norm, axis, class_agnostic),
        roi_levels=tuple(roi_levels),
        samples=samples,
        positive_fraction=positive_fraction,
        max_positives=int(samples * positive_fraction) if max_positives is None else max_positives,
        box_size=box_size,
        mask_size=mask_size,
        score_threshold=score_threshold,
        nms_threshold=nms_threshold,
        detections=detections,
        candidates=candidates,
    )
    return Architecture("mask_rcnn", model, losses, predict, "instance_segmentation")
