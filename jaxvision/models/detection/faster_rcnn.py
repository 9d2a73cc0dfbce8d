"""Faster R-CNN (Ren et al., NeurIPS 2015): on VGG16 or a ResNet as published, or with a feature pyramid (Lin et al., CVPR 2017)."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.batch import real_rows
from jaxvision.layers.fpn import FPN
from jaxvision.models.detection.two_stage import backbones
from jaxvision.models.detection.two_stage.detector import RegionDetector, fields, predict, pyramid
from jaxvision.models.detection.two_stage.roi_heads import BoxHead, Pooler, roi_losses
from jaxvision.models.detection.two_stage.rpn import RPN, rpn_losses


class FasterRCNN(RegionDetector):
    """`RegionDetector` on the proposals of an RPN.

    rpn_trunk, rpn_fpn: None, or what the RPN sees in place of the detector's own maps: a network trained before, which does
      not learn. learn: which of "rpn" and "roi" are sampled for and so have losses.
    """

    rpn: RPN
    rpn_trunk: nn.Module | None
    rpn_fpn: FPN | None
    learn: Sequence[str]

    def propose(self, x, levels, batch, train):
        if self.rpn_trunk is not None:
            _, levels = jax.lax.stop_gradient(pyramid(self.rpn_trunk, self.rpn_fpn, self.trunk_maps, x, False))
        maps = list(levels.values())[: len(self.rpn.sizes)]
        return self.rpn(maps, batch["image_size"], x.shape[1:3], train)

    def learn_proposals(self, outputs, batch, key):
        if "rpn" not in self.learn:
            return {}
        return self.rpn.sample(outputs["anchors"], batch, jax.random.split(key, len(batch["boxes"])))

    def learn_rois(self, outputs, roi_maps, batch, key, train):
        return super().learn_rois(outputs, roi_maps, batch, key, train) if "roi" in self.learn else {}

    @nn.nowrap
    def parts(self) -> dict[str, Any]:
        """The fields, to build a subclass with."""
        return fields(self, FasterRCNN)


def losses(
    outputs: Mapping[str, jax.Array],
    batch: Mapping[str, jax.Array],
    box_beta: float = 1 / 9,
    anchors_per_location: int | None = None,
) -> dict:
    """rpn_objectness, rpn_box, roi_class and roi_box, of what was sampled for; see `roi_losses` and `rpn_losses`."""
    real, terms = real_rows(batch), {}
    if "rpn_samples" in outputs:
        terms |= rpn_losses(outputs, batch, real, anchors_per_location)
    if "roi_logits" in outputs:
        terms |= roi_losses(outputs, batch, real, box_beta)
    return terms


def faster_rcnn(
    num_classes: int,
    backbone: str = "resnet50_fpn",
    depths: Sequence[int] | None = None,
    block: str | None = None,
    widths: Sequence[int] | None = None,
    stem: str | None = None,
    stem_width: int | None = None,
    norm: str | None = None,
    fpn: int = 256,
    fpn_norm: str = "none",
    head_norm: str = "none",
    anchor_sizes: Sequence[Sequence[float]] | None = None,
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    legacy_anchors: bool = False,
    border_anchors: bool | None = None,
    rpn_convs: int = 1,
    rpn_features: int | None = None,
    rpn_samples: int = 256,
    rpn_positive_fraction: float = 0.5,
    rpn_nms_threshold: float = 0.7,
    rpn_score_threshold: float = 0.0,
    rpn_min_side: float | None = None,
    rpn_box_over: str = "samples",
    pre_nms: tuple[int, int] | None = None,
    post_nms: tuple[int, int] | None = None,
    roi_levels: Sequence[str] | None = None,
    canonical_size: float = 224,
    samples: int | None = None,
    positive_fraction: float = 0.25,
    ohem: bool = False,
    roi_op: str | None = None,
    sampling_ratio: int = 2,
    aligned: bool = True,
    roi_impl: str = "gather",
    stage_stride: int = 1,
    box_convs: Sequence[int] = (),
    box_features: int | None = None,
    box_fcs: int | None = None,
    box_beta: float | None = None,
    dropout: float | None = None,
    class_agnostic: bool = False,
    box_size: int = 7,
    score_threshold: float = 0.05,
    nms_threshold: float | None = None,
    detections: int = 100,
    candidates: int = 2000,
    learn: Sequence[str] = ("rpn", "roi"),
    own_rpn_trunk: bool = False,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """Faster R-CNN; the defaults are those of the paper's R50-FPN in torchvision's form.

    Options that are None take what is usual with the backbone, see `backbones.FORMS`. Torchvision's second version is
    rpn_convs=2, box_convs=(256,) * 4, box_fcs=1 and "batch" for norm, fpn_norm and head_norm.

    backbone: "resnet18_fpn" ... "resnet152_fpn", of which `block`, `depths`, `widths`, `stem` override parts; or
      "mobilenet_v3_large_fpn", whose maps c5 and final, both of stride 32, become p5 and p6, and every second cell p7. Its
      norms are the usual ones here, as in torchvision: eps 1e-5, momentum 0.9. "vgg16" is the paper's form: all is done on
      conv5_3, the last block's map before its pool, at stride 16. "resnet50_c4" ... as well on c4, and the ResNet's last
      stage is run on each RoI, at `stage_stride` 1 as in the paper of Mask R-CNN; Detectron has box_size 14 and stride 2.
      Of fewer blocks or stages the last one's map is taken.
    norm, fpn_norm, head_norm: of the trunk, the pyramid, and the heads' convolutions; see `Norm`. A stage on RoIs has the
      trunk's, unless head_norm is something.
    anchor_sizes: one tuple a level of the pyramid, the finest first, p6 being that above a ResNet's p5; one tuple where
      there is one map. Proposals come from these levels. legacy_anchors: see `ops.anchors`. border_anchors: whether
      anchors that cross the image's border are learned from.
    rpn_min_side: the shortest side of a proposal, in pixels of the canvas (the authors': of the image before it is scaled).
    rpn_box_over: "samples", or "locations", the paper's, where the loss rpn_box should weigh 10; see `rpn_losses`.
    pre_nms, post_nms: (training, otherwise).
    canonical_size: side in pixels of the RoIs that are pooled from stride 16.
    ohem: learn from the `samples` hardest RoIs of an image, see `hardest_rois`; there is no positive_fraction then.
    roi_op: "align", "pool" or "warp", see `Pooler`. aligned: RoIAlign with half-pixel centres; torchvision's detectors
      have False.
    box_beta: of the smooth L1 of roi_box; that of the RPN is 1/9, the authors' sigma 3.
    candidates: the best boxes that NMS sees; predictions count what exceeds them as `overflow`.
    learn: ("rpn",) or ("roi",) for half of alternating training; own_rpn_trunk: the RPN sees a trunk of its own, `rpn_trunk`
      (and `rpn_fpn`), that was trained before and is left as it is. See configs/faster_rcnn_alternating_scenes.py.
    axis, remat, dtype: name of the mapped axis for BatchNorm; whether the trunk's blocks are computed again in the
      backward pass; of the arithmetic in trunk and pyramid.
    Raises ValueError for a backbone, anchor sizes, `rpn_box_over` or `learn` that cannot be meant.
    """
    usual = backbones.FORMS[backbones.form(backbone)]

    def get(name, value):
        return usual[name] if value is None else value

    shared = {"norm": get("norm", norm), "axis": axis, "remat": remat, "dtype": dtype}
    base = backbones.backbone(
        backbone,
        overrides=dict(depths=depths, block=block, widths=widths, stem=stem, stem_width=stem_width),
        fpn=fpn,
        fpn_norm=fpn_norm,
        roi_levels=roi_levels,
        stage_stride=stage_stride,
        stage_norm=None if head_norm == "none" else head_norm,
        **shared,
    )
    sizes = tuple(map(tuple, get("anchor_sizes", anchor_sizes)))
    levels = base.levels()
    if not 1 <= len(sizes) <= len(levels) or len({len(level) for level in sizes}) > 1:
        names = f"{levels[0]} .. {levels[-1]}" if len(levels) > 1 else levels[0]
        raise ValueError(f"anchor_sizes needs equally long tuples for {names} or the first of them, got {sizes}.")
    if rpn_box_over not in ("samples", "locations"):
        raise ValueError(f'rpn_box_over {rpn_box_over!r} is not "samples" or "locations".')
    if not learn or not set(learn) <= {"rpn", "roi"}:
        raise ValueError(f'learn {learn!r} should hold "rpn", "roi" or both.')
    model = FasterRCNN(
        trunk=base.trunk,
        fpn=base.fpn,
        stage=base.stage,
        rpn=RPN(
            sizes,
            tuple(anchor_ratios),
            rpn_features or usual["rpn_features"] or fpn,
            convs=rpn_convs,
            pre_nms=tuple(get("pre_nms", pre_nms)),
            post_nms=tuple(get("post_nms", post_nms)),
            nms_threshold=rpn_nms_threshold,
            score_threshold=rpn_score_threshold,
            min_side=get("rpn_min_side", rpn_min_side),
            samples=rpn_samples,
            positive_fraction=rpn_positive_fraction,
            border=get("border_anchors", border_anchors),
            legacy=legacy_anchors,
        ),
        rpn_trunk=base.trunk.clone() if own_rpn_trunk else None,
        rpn_fpn=base.fpn.clone() if own_rpn_trunk and base.fpn else None,
        learn=tuple(learn),
        pooler=Pooler(base.strides, sampling_ratio, aligned, roi_impl, canonical_size, get("roi_op", roi_op)),
        box_head=BoxHead(
            num_classes,
            get("box_features", box_features),
            tuple(box_convs),
            get("box_fcs", box_fcs),
            head_norm,
            axis,
            class_agnostic,
            get("dropout", dropout),
        ),
        trunk_maps=base.trunk_maps,
        roi_levels=base.roi_levels,
        samples=get("samples", samples),
        positive_fraction=1.0 if ohem else positive_fraction,
        background=0.0,
        ohem=ohem,
        box_beta=get("box_beta", box_beta),
        box_size=box_size,
        score_threshold=score_threshold,
        nms_threshold=get("nms_threshold", nms_threshold),
        detections=detections,
        candidates=candidates,
    )
    locations = len(anchor_ratios) * len(sizes[0]) if rpn_box_over == "locations" else None
    terms = functools.partial(losses, box_beta=model.box_beta, anchors_per_location=locations)
    return Architecture("faster_rcnn", model, terms, predict, "detection")
