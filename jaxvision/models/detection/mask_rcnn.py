"""Mask R-CNN (He et al., ICCV 2017): Faster R-CNN with a mask head."""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxvision.architecture import Architecture, extends
from jaxvision.batch import real_rows
from jaxvision.models.detection import faster_rcnn as faster
from jaxvision.models.detection.two_stage.roi_heads import MaskHead, Pooler, first_positives, mask_losses, of_class


class MaskRCNN(faster.FasterRCNN):
    """Faster R-CNN with masks.

    max_positives: the mask head sees the first so many of the sampled positives; `mask_overflow` (B,) counts the others.
    mask_size: side of the pooled map, half that of the mask.
    """

    mask_pooler: Pooler
    mask_head: MaskHead
    mask_size: int
    max_positives: int

    def learn_more(self, found, roi_maps, train):
        rois, overflow = first_positives(found, self.max_positives)
        logits = self.mask_head(self.mask_pooler(roi_maps, rois, self.mask_size), train)
        return {"mask_logits": logits, "mask_overflow": overflow}

    def detect_more(self, found, roi_maps):
        logits = self.mask_head(self.mask_pooler(roi_maps, found["boxes"], self.mask_size), False)
        return {"masks": jax.nn.sigmoid(of_class(jnp.moveaxis(logits, -1, 2), found["classes"]))}


def losses(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], aligned: bool = True) -> dict:
    """Those of Faster R-CNN, and mask."""
    return faster.losses(outputs, batch) | mask_losses(outputs, batch, real_rows(batch), aligned)


@extends(faster.faster_rcnn)
def mask_rcnn(
    num_classes: int,
    mask_convs: Sequence[int] = (256, 256, 256, 256),
    mask_size: int = 14,
    mask_sampling_ratio: int = 2,
    max_positives: int | None = None,
    **options,
) -> Architecture:
    """Mask R-CNN; `options` are those of `faster_rcnn`. The defaults are those of the paper's R50-FPN in torchvision's form.

    max_positives: None is samples * positive_fraction, but at most 256: where everything is sampled the mask head still
      sees little more than positives, and memory holds.
    aligned: also of the masks' targets; see `mask_losses`.
    Departure: where head_norm is "batch", statistics are of all the rows that the head sees, background among them;
      torchvision's head sees positives alone.
    """
    model = faster.faster_rcnn(num_classes, **options).model
    head, pooler = model.box_head, model.pooler
    if max_positives is None:
        max_positives = min(int(model.samples * model.positive_fraction), 256)
    model = MaskRCNN(
        **model.parts(),
        mask_pooler=pooler.clone(sampling_ratio=mask_sampling_ratio),
        mask_head=MaskHead(num_classes, tuple(mask_convs), head.norm, head.axis, head.class_agnostic),
        mask_size=mask_size,
        max_positives=max_positives,
    )
    terms = functools.partial(losses, aligned=pooler.aligned)
    return Architecture("mask_rcnn", model, terms, faster.predict, "instance_segmentation")
