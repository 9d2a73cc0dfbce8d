"""Faster R-CNN (Ren et al., NeurIPS 2015) on a ResNet or MobileNetV3 with a feature pyramid (Lin et al., CVPR 2017)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.batch import PREDICTIONS, real_rows
from jaxvision.layers.fpn import FPN
from jaxvision.models.backbones import mobilenet_v3, resnet
from jaxvision.models.backbones.resnet import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.models.detection.two_stage.roi_heads import BoxHead, Pooler, detect, roi_losses, sample_rois
from jaxvision.models.detection.two_stage.rpn import RPN, rpn_losses
from jaxvision.ops.images import normalize


class FasterRCNN(nn.Module):
    """RPN and box head on a pyramid; see `jaxvision.batch` for the names of what comes out.

    With `boxes` in the batch the heads run on RoIs sampled from the proposals and the ground truth, which `losses` reads.
    With train=False they run on the proposals and then on the detections, which `predict` reads and no ground truth touches.
    A subclass that has further heads runs them in `learn_more` and `detect_more`.
    trunk_maps: those that the pyramid is built on, one for each of its levels. roi_levels: the pyramid's maps that RoIs are
      pooled from. samples, positive_fraction: of the sampled RoIs.
    """

    trunk: nn.Module
    fpn: nn.Module
    rpn: RPN
    pooler: Pooler
    box_head: BoxHead
    trunk_maps: Sequence[str]
    roi_levels: Sequence[str]
    samples: int
    positive_fraction: float
    box_size: int
    score_threshold: float
    nms_threshold: float
    detections: int
    candidates: int

    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        image_size = batch["image_size"]
        x = normalize(batch["image"], image_size, IMAGENET_MEAN, IMAGENET_STD)
        maps = self.trunk(x, train)
        pyramid = self.fpn({level: maps[name] for level, name in zip(self.fpn.levels, self.trunk_maps)}, train)
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
        return found | self.learn_more(found, roi_maps, train)

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
        return found | self.detect_more(found, roi_maps)

    def learn_more(self, found: Mapping, roi_maps: Sequence[jax.Array], train: bool) -> dict[str, jax.Array]:
        """What further heads say of the sampled RoIs in `found`."""
        return {}

    def detect_more(self, found: Mapping, roi_maps: Sequence[jax.Array]) -> dict[str, jax.Array]:
        """What further heads say of the detections in `found`."""
        return {}

    @nn.nowrap
    def parts(self) -> dict[str, Any]:
        """The fields, to build a subclass with."""
        names = [field.name for field in dataclasses.fields(FasterRCNN) if field.name not in ("parent", "name")]
        return {name: getattr(self, name) for name in names}


def losses(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict:
    """rpn_objectness, rpn_box, roi_class and roi_box."""
    real = real_rows(batch)
    return rpn_losses(outputs, batch, real) | roi_losses(outputs, batch, real)


def predict(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """boxes, classes, scores, valid, best first, what further heads found in them, and overflow (see `detect`)."""
    return {name: outputs[name] for name in (*PREDICTIONS, "overflow") if name in outputs}


def faster_rcnn(
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
    rpn_convs: int = 1,
    rpn_samples: int = 256,
    rpn_positive_fraction: float = 0.5,
    rpn_nms_threshold: float = 0.7,
    rpn_score_threshold: float = 0.0,
    pre_nms: tuple[int, int] = (2000, 1000),
    post_nms: tuple[int, int] = (2000, 1000),
    roi_levels: Sequence[str] = ("p2", "p3", "p4", "p5"),
    canonical_size: float = 224,
    samples: int = 512,
    positive_fraction: float = 0.25,
    sampling_ratio: int = 2,
    aligned: bool = True,
    roi_impl: str = "gather",
    box_convs: Sequence[int] = (),
    box_features: int = 1024,
    box_fcs: int = 2,
    class_agnostic: bool = False,
    box_size: int = 7,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    detections: int = 100,
    candidates: int = 2000,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """Faster R-CNN; the defaults are those of the paper's R50-FPN in torchvision's form.

    Torchvision's second version is rpn_convs=2, box_convs=(256,) * 4, box_fcs=1 and "batch" for norm, fpn_norm and
    head_norm.

    backbone: "resnet18_fpn" ... "resnet152_fpn", of which `block`, `depths`, `widths`, `stem` override parts; or
      "mobilenet_v3_large_fpn", whose maps c5 and final, both of stride 32, become p5 and p6, and every second cell p7. Its
      norms are the usual ones here, as in torchvision: eps 1e-5, momentum 0.9.
    norm, fpn_norm, head_norm: of the trunk, the pyramid, and the heads' convolutions; see `Norm`.
    anchor_sizes: one tuple a level of the pyramid, the finest first, p6 being that above a ResNet's p5. Proposals come
      from these levels.
    pre_nms, post_nms: (training, otherwise).
    canonical_size: side in pixels of the RoIs that are pooled from stride 16.
    aligned: RoIAlign with half-pixel centres; torchvision's detectors have False.
    candidates: the best boxes that NMS sees; predictions count what exceeds them as `overflow`.
    axis, remat, dtype: name of the mapped axis for BatchNorm; whether the trunk's blocks are computed again in the
      backward pass; of the arithmetic in trunk and pyramid.
    Raises ValueError for a backbone or anchor sizes that cannot be meant.
    """
    name = backbone.removesuffix("_fpn")
    if name == backbone:
        raise ValueError(f'backbone {backbone!r} should read "resnet50_fpn" or another trunk with "_fpn".')
    shared = {"norm": norm, "axis": axis, "remat": remat, "dtype": dtype}
    if name in mobilenet_v3.TRUNKS:
        trunk, maps, levels = mobilenet_v3.trunk(name, eps=1e-5, momentum=0.9, **shared), ("c5", "final"), ("c5", "c6")
    else:
        options = {"widths": tuple(widths), "stem": stem, "stem_width": stem_width}
        options |= {"depths": tuple(depths)} if depths is not None else {}
        options |= {"block": block} if block is not None else {}
        trunk, maps, levels = resnet.trunk(name, **shared, **options), *(("c2", "c3", "c4", "c5"),) * 2
    if not 1 <= len(anchor_sizes) <= len(levels) + 1 or len({len(sizes) for sizes in anchor_sizes}) > 1:
        names = f"p{levels[0][1:]} .. p{int(levels[-1][1:]) + 1}"
        raise ValueError(
            f"anchor_sizes needs equally long tuples for {names} or the first of them, got {anchor_sizes}."
        )
    strides = [2 ** int(level[1:]) for level in roi_levels]
    model = FasterRCNN(
        trunk=trunk,
        fpn=FPN(levels, features=fpn, norm=fpn_norm, axis=axis, dtype=dtype),
        rpn=RPN(
            tuple(map(tuple, anchor_sizes)),
            tuple(anchor_ratios),
            fpn,
            convs=rpn_convs,
            pre_nms=tuple(pre_nms),
            post_nms=tuple(post_nms),
            nms_threshold=rpn_nms_threshold,
            score_threshold=rpn_score_threshold,
            samples=rpn_samples,
            positive_fraction=rpn_positive_fraction,
        ),
        pooler=Pooler(strides, sampling_ratio, aligned, roi_impl, canonical_size),
        box_head=BoxHead(num_classes, box_features, tuple(box_convs), box_fcs, head_norm, axis, class_agnostic),
        trunk_maps=maps,
        roi_levels=tuple(roi_levels),
        samples=samples,
        positive_fraction=positive_fraction,
        box_size=box_size,
        score_threshold=score_threshold,
        nms_threshold=nms_threshold,
        detections=detections,
        candidates=candidates,
    )
    return Architecture("faster_rcnn", model, losses, predict, "detection")
