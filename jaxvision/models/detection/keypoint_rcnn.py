"""Keypoint R-CNN (He et al., "Mask R-CNN", ICCV 2017, section 5): Faster R-CNN with a head for joints."""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax

from jaxvision.architecture import Architecture, extends
from jaxvision.batch import real_rows
from jaxvision.models.detection import faster_rcnn as faster
from jaxvision.models.detection.two_stage.keypoint_head import KeypointHead, keypoint_losses
from jaxvision.models.detection.two_stage.roi_heads import Pooler, first_positives
from jaxvision.ops.keypoints import heatmap_keypoints


class KeypointRCNN(faster.FasterRCNN):
    """Faster R-CNN with joints.

    max_positives: the keypoint head sees the first so many of the sampled positives; `keypoint_overflow` (B,) counts the
      others. keypoint_size: side of the pooled map, a quarter of that of the heat-map.
    """

    keypoint_pooler: Pooler
    keypoint_head: KeypointHead
    keypoint_size: int
    max_positives: int

    def learn_more(self, found, roi_maps, train):
        rois, overflow = first_positives(found, self.max_positives)
        return {"keypoint_logits": self._heatmaps(roi_maps, rois, train), "keypoint_overflow": overflow}

    def detect_more(self, found, roi_maps):
        heatmaps = self._heatmaps(roi_maps, found["boxes"], False)
        keypoints, scores = jax.vmap(heatmap_keypoints)(heatmaps, found["boxes"])
        return {"keypoints": keypoints, "keypoint_scores": scores, "keypoint_heatmaps": heatmaps}

    def _heatmaps(self, roi_maps, rois, train):
        return self.keypoint_head(self.regions(self.keypoint_pooler, roi_maps, rois, self.keypoint_size, train), train)


def losses(of_boxes: Callable, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict:
    """Those of Faster R-CNN, `of_boxes`, and keypoint."""
    terms = of_boxes(outputs, batch)
    if "keypoint_logits" in outputs:
        terms |= keypoint_losses(outputs, batch, real_rows(batch))
    return terms


@extends(faster.faster_rcnn)
def keypoint_rcnn(
    num_classes: int,
    joints: int = 17,
    keypoint_convs: Sequence[int] = (512,) * 8,
    keypoint_size: int = 14,
    keypoint_sampling_ratio: int = 2,
    max_positives: int | None = None,
    **options,
) -> Architecture:
    """Keypoint R-CNN; `options` are those of `faster_rcnn`. The defaults are those of torchvision's R50-FPN for COCO's persons.

    joints: heat-maps of an object, the same of every class; as many as the source names.
    max_positives: None is samples * positive_fraction, but at most 256, as in `mask_rcnn`.
    """
    base = faster.faster_rcnn(num_classes, **options)
    model, head = base.model, base.model.box_head
    if max_positives is None:
        max_positives = min(int(model.samples * model.positive_fraction), 256)
    model = KeypointRCNN(
        **model.parts(),
        keypoint_pooler=model.pooler.clone(sampling_ratio=keypoint_sampling_ratio),
        keypoint_head=KeypointHead(joints, tuple(keypoint_convs), head.norm, head.axis),
        keypoint_size=keypoint_size,
        max_positives=max_positives,
    )
    terms = functools.partial(losses, base.losses)
    return Architecture("keypoint_rcnn", model, terms, base.predict, "keypoint_detection")
