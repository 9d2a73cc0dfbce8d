"""What R-CNN and SPP-net have in common: proposed regions are classified one by one, and their boxes corrected.

A region's features go through two dense layers to a softmax, by which the network is tuned. Then a linear SVM and a box
regression are fitted for each class on the host (`jaxvision.models.detection.region_fit`); both become parameters, so that a
prediction is one pure function.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.batch import real_rows
from jaxvision.layers.conv import he_normal
from jaxvision.losses.cross_entropy import softmax_cross_entropy
from jaxvision.models.backbones import alexnet, vgg
from jaxvision.models.detection.two_stage.roi_heads import best_detections, sample_rois
from jaxvision.ops import boxes as box_ops
from jaxvision.ops.nms import blank

CLASSIFIERS = ("softmax", "svm")
zeros, normal = nn.initializers.zeros, nn.initializers.normal


class RegionDetector(nn.Module):
    """Scores and boxes of `proposals`; a subclass says in `pool` what a region's features are.

    With `boxes` in the batch the softmax also sees regions sampled from proposals and ground truth, which `losses` reads;
    with train=False every proposal gets its class scores `logits` (B,P,num_classes), of SVMs their margins and 0 for the
    background, and the detections are found, which no ground truth touches.
    classifier: "softmax", or "svm": scores are then sigmoid(margin), 0.5 on the SVM's border.
    samples, positive_fraction: regions of an image to learn from, and how many of them at most overlap an object by an IoU of
      0.5; the others overlap all by less, and some one by at least `least_overlap`.
    candidates: the best pairs of a region and a class that NMS sees; `overflow` counts those above the threshold beyond.
    """

    trunk: nn.Module
    num_classes: int
    fc: int
    dropout: float
    classifier: str
    samples: int
    positive_fraction: float
    least_overlap: float
    score_threshold: float
    nms_threshold: float
    detections: int
    candidates: int
    dtype: Any

    def setup(self):
        dense = functools.partial(nn.Dense, self.fc, kernel_init=he_normal, dtype=self.dtype)
        self.fc6, self.fc7, self.drop = dense(), dense(), nn.Dropout(self.dropout)
        self.logits = nn.Dense(self.num_classes, kernel_init=normal(0.01))
        self.svm = nn.Dense(self.num_classes - 1, kernel_init=zeros)
        self.box = nn.Dense(4 * (self.num_classes - 1), kernel_init=zeros)  # zeros leave a region as it is

    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        outputs, parts = {}, []
        if "boxes" in batch:
            key = self.make_rng("sampler") if train else jax.random.key(0)
            outputs |= self._sample(batch, key)
            parts.append(outputs["rois"])
        if not train:
            parts.append(batch["proposals"])
        # All regions at once: the trunk's maps have one name each.
        pooled, maps = self.pool(batch, jnp.concatenate(parts, 1), train)
        features, sampled = self.describe(pooled, train), 0
        if "boxes" in batch:
            sampled = outputs["rois"].shape[1]
            outputs["roi_logits"] = self.logits(features[:, :sampled])
        if not train:
            outputs |= self._detect(batch, pooled[:, sampled:], features[:, sampled:])
        return {**maps, **outputs}

    def pool(self, batch: Mapping[str, jax.Array], regions: jax.Array, train: bool) -> tuple[jax.Array, dict]:
        """Features (B,R,D) float32 of regions (B,R,4), which the box regression reads, and the trunk's maps."""
        raise NotImplementedError

    def describe(self, pooled: jax.Array, train: bool) -> jax.Array:
        """(B,R,D) to fc7's (B,R,fc) float32, which the classifiers read."""
        x = self.drop(nn.relu(self.fc6(pooled)), deterministic=not train)
        return self.drop(nn.relu(self.fc7(x)), deterministic=not train).astype(jnp.float32)

    def features(self, batch: Mapping[str, jax.Array], regions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(`pool`'s, `describe`'s) features of any regions (B,R,4), as predictions have them."""
        pooled, _ = self.pool(batch, regions, False)
        return pooled, self.describe(pooled, False)

    def _sample(self, batch, key):
        usable = batch["proposals_valid"]
        if self.least_overlap:
            overlaps = jax.vmap(box_ops.iou)(batch["boxes"], batch["proposals"])
            usable &= jnp.where(batch["valid"][..., None], overlaps, 0).max(1) >= self.least_overlap
        keys = jax.random.split(key, len(usable))
        options = dict(samples=self.samples, positive_fraction=self.positive_fraction)
        return sample_rois(batch["proposals"], usable, batch, keys, **options)

    def _detect(self, batch, pooled, features):
        logits, margins = self.logits(features), self.svm(features)
        if self.classifier == "svm":
            logits, scores = jnp.pad(margins, ((0, 0), (0, 0), (1, 0))), jax.nn.sigmoid(margins)
        else:
            scores = jax.nn.softmax(logits)[..., 1:]
        deltas = self.box(pooled).reshape(*scores.shape, 4)
        boxes = box_ops.decode(deltas, batch["proposals"][:, :, None])
        find = functools.partial(
            best_detections,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            detections=self.detections,
            candidates=self.candidates,
        )
        found = jax.vmap(find)(boxes, scores, logits[..., 1:], batch["proposals_valid"], batch["image_size"])
        return {"logits": logits, **blank(found)}


def losses(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict:
    """`roi_class`: the softmax's cross-entropy over the sampled regions."""
    real = real_rows(batch)
    valid = outputs["rois_valid"] if real is None else outputs["rois_valid"] & real[:, None]
    return {"roi_class": softmax_cross_entropy(outputs["roi_logits"], outputs["roi_classes"], valid)}


def make_trunk(
    name: str, depths: Sequence[int] | None, widths: Sequence[int] | None, norm: str, **shared
) -> tuple[nn.Module, bool]:
    """(the trunk of that name, whether it is a VGG). Raises ValueError for another name, or a norm where there is none."""
    if name in vgg.DEPTHS:
        widths = tuple(widths or vgg.VGG16[1])
        return vgg.VGG(tuple(depths or vgg.DEPTHS[name]), widths, norm=norm, bias=True, **shared), True
    kinds = {"alexnet": alexnet.AlexNet, "zf5": alexnet.ZF}
    if name not in kinds:
        raise ValueError(f"There is no trunk {name!r}; known: {', '.join((*kinds, *vgg.DEPTHS))}.")
    if depths is not None or norm != "none":
        raise ValueError(f"The trunk {name!r} has no norm and no depths: leave them out.")
    dtype = {"dtype": shared["dtype"]}
    return kinds[name](**dtype, **({"widths": tuple(widths)} if widths else {})), False


def check_classifier(classifier: str) -> str:
    if classifier not in CLASSIFIERS:
        raise ValueError(f"classifier {classifier!r} is not one of {', '.join(CLASSIFIERS)}.")
    return classifier
