"""Fast R-CNN (Girshick, ICCV 2015): one pass of the trunk, and a head for classes and boxes on RoIs from elsewhere."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.architecture import Architecture
from jaxvision.batch import real_rows
from jaxvision.models.detection.two_stage import backbones
from jaxvision.models.detection.two_stage.detector import RegionDetector, predict
from jaxvision.models.detection.two_stage.roi_heads import BoxHead, Pooler, roi_losses


class FastRCNN(RegionDetector):
    """`RegionDetector` on the batch's proposals. Raises ValueError where it has none."""

    def propose(self, x, levels, batch, train):
        if "proposals" not in batch:
            raise ValueError(
                "Fast R-CNN finds objects among given proposals, and the batch has none: set config.data.proposals, or add "
                "`proposals` (B,P,4) in pixels of the canvas and `proposals_valid` (B,P); faster_rcnn makes its own."
            )
        return {name: batch[name] for name in ("proposals", "proposals_valid")}


def losses(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], box_beta: float = 1.0) -> dict:
    """roi_class and roi_box, both over the number of sampled RoIs."""
    return roi_losses(outputs, batch, real_rows(batch), box_beta)


def fast_rcnn(
    num_classes: int,
    backbone: str = "vgg16",
    depths: Sequence[int] | None = None,
    block: str | None = None,
    widths: Sequence[int] | None = None,
    stem: str | None = None,
    stem_width: int | None = None,
    norm: str | None = None,
    fpn: int = 256,
    fpn_norm: str = "none",
    head_norm: str = "none",
    roi_levels: Sequence[str] | None = None,
    canonical_size: float = 224,
    samples: int = 64,
    positive_fraction: float = 0.25,
    background: float = 0.1,
    ohem: bool = False,
    roi_op: str = "pool",
    sampling_ratio: int = 2,
    aligned: bool = True,
    roi_impl: str = "gather",
    stage_stride: int = 1,
    box_features: int | None = None,
    box_fcs: int | None = None,
    box_size: int = 7,
    box_beta: float = 1.0,
    dropout: float | None = None,
    class_agnostic: bool = False,
    ranks: Sequence[int | None] = (),
    score_threshold: float = 0.05,
    nms_threshold: float = 0.3,
    detections: int = 100,
    candidates: int = 2000,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """Fast R-CNN; the defaults are the paper's, on VGG16. Batches must have `proposals` and `proposals_valid`.

    The ground truth joins the proposals that are learned from. An image gives `samples` RoIs, the quarter
    `positive_fraction` of which overlap an object by 0.5 or more, while the others overlap one by `background` to 0.5: a
    heuristic for hard negatives, which an image without objects has none of. Box targets are in units of their usual
    deviation, 0.1 of a side and 0.2 of a logarithm, and so have about unit variance; the paper measures it on its set.

    ohem: the samples are an image's hardest RoIs, of any kind and overlap; see `hardest_rois`.
    ranks: of fc6 and fc7 after `two_stage.svd.truncate`, (1024, 256) in the paper; () leaves them whole.
    The other options are those of `faster_rcnn`; None takes what is usual with the backbone, see `backbones.FORMS`.
    """
    usual = backbones.FORMS[backbones.form(backbone)]

    def get(name, value):
        return usual[name] if value is None else value

    base = backbones.backbone(
        backbone,
        overrides=dict(depths=depths, block=block, widths=widths, stem=stem, stem_width=stem_width),
        fpn=fpn,
        fpn_norm=fpn_norm,
        roi_levels=roi_levels,
        stage_stride=stage_stride,
        stage_norm=None if head_norm == "none" else head_norm,
        norm=get("norm", norm),
        axis=axis,
        remat=remat,
        dtype=dtype,
    )
    model = FastRCNN(
        trunk=base.trunk,
        fpn=base.fpn,
        stage=base.stage,
        pooler=Pooler(base.strides, sampling_ratio, aligned, roi_impl, canonical_size, roi_op),
        box_head=BoxHead(
            num_classes,
            get("box_features", box_features),
            fcs=get("box_fcs", box_fcs),
            norm=head_norm,
            axis=axis,
            class_agnostic=class_agnostic,
            dropout=get("dropout", dropout),
            ranks=tuple(ranks),
        ),
        trunk_maps=base.trunk_maps,
        roi_levels=base.roi_levels,
        samples=samples,
        positive_fraction=positive_fraction,
        background=background,
        ohem=ohem,
        box_beta=box_beta,
        box_size=box_size,
        score_threshold=score_threshold,
        nms_threshold=nms_threshold,
        detections=detections,
        candidates=candidates,
    )
    return Architecture("fast_rcnn", model, functools.partial(losses, box_beta=box_beta), predict, "region_detection")
