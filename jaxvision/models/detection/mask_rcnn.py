"""Mask R-CNN (He et al., ICCV 2017): Faster R-CNN with a mask head."""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxvision.architecture import Architecture, extends
from jaxvision.batch import real_rows
from jaxvision.models.detection import faster_rcnn as faster
from jaxvision.models.detection.two_stage.roi_heads import MaskHead, Pooler, first_positives, mask_losses, of_class


class MaskRCNN(faster.FasterRCNN):
    """Faster R-CNN with masks.

    max_positives: the mask head sees the first so many of the sampled positives; `mask_overflow` (B,) counts the others.
    mask_size: side of the pooled map, half that of the mask where no stage with a stride is between.
    mask_rule: "sigmoid" or "softmax", see `mask_losses`.
    """

    mask_pooler: Pooler
    mask_head: MaskHead
    mask_size: int
    max_positives: int
    mask_rule: str

    def learn_more(self, found, roi_maps, train):
        rois, overflow = first_positives(found, self.max_positives)
        return {"mask_logits": self._masks(roi_maps, rois, train), "mask_overflow": overflow}

    def detect_more(self, found, roi_maps):
        logits = self._masks(roi_maps, found["boxes"], False)
        probabilities = jax.nn.softmax(logits) if self.mask_rule == "softmax" else jax.nn.sigmoid(logits)
        return {"masks": of_class(jnp.moveaxis(probabilities, -1, 2), found["classes"])}

    def _masks(self, roi_maps, rois, train):
        return self.mask_head(self.regions(self.mask_pooler, roi_maps, rois, self.mask_size, train), train)


def losses(
    of_boxes: Callable,
    outputs: Mapping[str, jax.Array],
    batch: Mapping[str, jax.Array],
    aligned: bool = True,
    mask_rule: str = "sigmoid",
) -> dict:
    """Those of Faster R-CNN, `of_boxes`, and mask."""
    terms = of_boxes(outputs, batch)
    if "mask_logits" in outputs:
        terms |= mask_losses(outputs, batch, real_rows(batch), aligned, mask_rule)
    return terms


@extends(faster.faster_rcnn)
def mask_rcnn(
    num_classes: int,
    backbone: str = "resnet50_fpn",
    mask_convs: Sequence[int] | None = None,
    mask_features: int | None = None,
    mask_size: int | None = None,
    mask_sampling_ratio: int = 2,
    max_positives: int | None = None,
    mask_rule: str = "sigmoid",
    **options,
) -> Architecture:
    """Mask R-CNN; `options` are those of `faster_rcnn`. The defaults are those of the paper's R50-FPN in torchvision's form.

    mask_convs, mask_features, mask_size: the 3x3 convolutions, the channels of the transposed one (None: as many as it
      sees), and the side of the pooled map. None is (256,) * 4, None and 14 on a pyramid; without one (), 256 and
      box_size, where the mask head sees what the box head sees: on "resnet50_c4" masks of 14 x 14 behind the last stage.
    max_positives: None is samples * positive_fraction, but at most 256: where everything is sampled the mask head still
      sees little more than positives, and memory holds.
    aligned: also of the masks' targets; mask_rule: "sigmoid", a mask for each class by itself, or "softmax", where classes
      compete for each pixel, the paper's ablation; see `mask_losses`.
    Departure: where head_norm is "batch", statistics are of all the rows that the head sees, background among them;
      torchvision's head sees positives alone.
    """
    if mask_rule not in ("sigmoid", "softmax"):
        raise ValueError(f'mask_rule {mask_rule!r} is not "sigmoid" or "softmax".')
    base = faster.faster_rcnn(num_classes, backbone, **options)
    model, head, pooler = base.model, base.model.box_head, base.model.pooler
    if mask_rule == "softmax" and head.class_agnostic:
        raise ValueError('mask_rule="softmax" lets classes compete: set class_agnostic=False.')
    if max_positives is None:
        max_positives = min(int(model.samples * model.positive_fraction), 256)
    if mask_convs is None:
        mask_convs = () if model.fpn is None else (256,) * 4
    if mask_features is None and model.fpn is None:
        mask_features = 256
    if mask_size is None:
        mask_size = model.box_size if model.fpn is None else 14
    model = MaskRCNN(
        **model.parts(),
        mask_pooler=pooler.clone(sampling_ratio=mask_sampling_ratio),
        mask_head=MaskHead(num_classes, tuple(mask_convs), mask_features, head.norm, head.axis, head.class_agnostic),
        mask_size=mask_size,
        max_positives=max_positives,
        mask_rule=mask_rule,
    )
    terms = functools.partial(losses, base.losses, aligned=pooler.aligned or pooler.op != "align", mask_rule=mask_rule)
    return Architecture("mask_rcnn", model, terms, base.predict, "instance_segmentation")
