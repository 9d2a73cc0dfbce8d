"""What Fast, Faster, Mask and Keypoint R-CNN have in common: RoIs of an image's map, and heads on them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn

from jaxvision.batch import PREDICTIONS
from jaxvision.layers.fpn import FPN
from jaxvision.models.backbones.resnet import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.models.detection.two_stage.ohem import hardest_rois
from jaxvision.models.detection.two_stage.roi_heads import (
    BoxHead,
    Pooler,
    detect,
    label_rois,
    roi_errors,
    sample_rois,
)
from jaxvision.ops.images import normalize


class RegionDetector(nn.Module):
    """A box head on RoIs, see `jaxvision.batch` for the names of what comes out. A subclass says where proposals come from.

    With `boxes` in the batch the heads run on RoIs sampled from the proposals and the ground truth, which `losses` reads.
    With train=False they run on the proposals and then on the detections, which `predict` reads and no ground truth touches.
    A subclass that has further heads runs them in `learn_more` and `detect_more`.
    fpn: None where RoIs are pooled from a single map of the trunk. stage: what RoI features pass before the heads, or None.
    trunk_maps: those that the pyramid is built on, one for each of its levels; or the single one. roi_levels: the maps that
      RoIs are pooled from. samples, positive_fraction: of the sampled RoIs. background: the least overlap of those that
      are background. ohem: the samples are the hardest, see `hardest_rois`, whatever their kind and overlap.
    """

    trunk: nn.Module
    fpn: FPN | None
    stage: nn.Module | None
    pooler: Pooler
    box_head: BoxHead
    trunk_maps: Sequence[str]
    roi_levels: Sequence[str]
    samples: int
    positive_fraction: float
    background: float
    ohem: bool
    box_beta: float
    box_size: int
    score_threshold: float
    nms_threshold: float
    detections: int
    candidates: int

    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x = normalize(batch["image"], batch["image_size"], IMAGENET_MEAN, IMAGENET_STD)
        maps, levels = pyramid(self.trunk, self.fpn, self.trunk_maps, x, train)
        outputs = self.propose(x, levels, batch, train)
        roi_maps = [levels[level] for level in self.roi_levels]
        if "boxes" in batch:
            key = self.make_rng("sampler") if train else jax.random.key(0)
            proposal_key, roi_key = jax.random.split(key)
            outputs |= self.learn_proposals(outputs, batch, proposal_key)
            outputs |= self.learn_rois(outputs, roi_maps, batch, roi_key, train)
        if not train:
            outputs |= self._detect(outputs, roi_maps, batch["image_size"])
        return {**maps, **levels, **outputs}

    def propose(self, x: jax.Array, levels: Mapping[str, jax.Array], batch: Mapping, train: bool) -> dict:
        """`proposals` (B,P,4), `proposals_valid` (B,P), without gradient, and whatever belongs to them."""
        raise NotImplementedError

    def learn_proposals(self, outputs: Mapping, batch: Mapping, key: jax.Array) -> dict[str, jax.Array]:
        """What the losses of proposals want, where these are learned."""
        return {}

    def regions(self, pooler: Pooler, roi_maps: Sequence[jax.Array], rois: jax.Array, size: int, train: bool):
        """What the heads see of RoIs (B,R,4): (B,R,s,s,C)."""
        x = pooler(roi_maps, rois, size)
        return x if self.stage is None else self.stage(x, train)

    def learn_rois(self, outputs, roi_maps, batch, key, train) -> dict[str, jax.Array]:
        proposals = outputs["proposals"], outputs["proposals_valid"]
        if self.ohem:
            found = self._hardest(label_rois(*proposals, batch), roi_maps, batch)
        else:
            found = sample_rois(
                *proposals,
                batch,
                jax.random.split(key, len(batch["boxes"])),
                samples=self.samples,
                positive_fraction=self.positive_fraction,
                background=self.background,
            )
        logits, deltas = self._heads(roi_maps, found["rois"], train)
        found |= {"roi_logits": logits, "roi_deltas": deltas}
        return found | self.learn_more(found, roi_maps, train)

    def _heads(self, roi_maps, rois, train):
        return self.box_head(self.regions(self.pooler, roi_maps, rois, self.box_size, train), train)

    def _hardest(self, candidates, roi_maps, batch):
        """By the losses of all candidates, looked at as in evaluation and without gradient."""
        logits, deltas = jax.lax.stop_gradient(self._heads(jax.lax.stop_gradient(roi_maps), candidates["rois"], False))
        errors = roi_errors({**candidates, "roi_logits": logits, "roi_deltas": deltas}, batch, self.box_beta)
        return hardest_rois(candidates, errors, self.samples)

    def _detect(self, outputs, roi_maps, image_size):
        proposals, valid = outputs["proposals"], outputs["proposals_valid"]
        found = detect(
            proposals,
            valid,
            *self._heads(roi_maps, proposals, False),
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


def pyramid(trunk: nn.Module, fpn: FPN | None, names: Sequence[str], x: jax.Array, train: bool) -> tuple[dict, dict]:
    """(the trunk's maps, the levels that are detected on): the pyramid built on those of the `names`, or they themselves."""
    maps = trunk(x, train)
    if fpn is None:
        return maps, {name: maps[name] for name in names}
    return maps, fpn({level: maps[name] for level, name in zip(fpn.levels, names)}, train)


def predict(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """boxes, classes, scores, valid, best first, what further heads found in them, and overflow (see `detect`)."""
    return {name: outputs[name] for name in (*PREDICTIONS, "overflow") if name in outputs}


def fields(model: RegionDetector, kind: type = RegionDetector) -> dict[str, Any]:
    """The values of `kind`'s fields in a model, to build a model of a subclass with."""
    return {n: getattr(model, n) for n in kind.__dataclass_fields__ if n not in ("parent", "name")}
