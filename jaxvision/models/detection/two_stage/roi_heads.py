"""What happens to each region of interest: sampling, the heads, their losses, and the final detections.

Fast R-CNN (Girshick, ICCV 2015) for classes and boxes, Mask R-CNN (He et al., ICCV 2017) for masks, by torchvision's rules.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.layers.conv import Conv, he_normal
from jaxvision.layers.norm import Norm
from jaxvision.losses.box_regression import smooth_l1
from jaxvision.losses.cross_entropy import sigmoid_cross_entropy, softmax_cross_entropy
from jaxvision.losses.reduction import shield, spread, total
from jaxvision.ops import boxes as box_ops
from jaxvision.ops.masks import mask_targets
from jaxvision.ops.matching import match
from jaxvision.ops.nms import blank, top_detections
from jaxvision.ops.roi import assign_levels, pyramid_roi_align
from jaxvision.ops.roi_pool import roi_pool
from jaxvision.ops.roi_warp import roi_warp
from jaxvision.ops.sampling import sample

normal = nn.initializers.normal
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


class Pooler(nn.Module):
    """Features of (B,R,4) RoIs from a map, or each from its own level of a pyramid: (B,R,size,size,C).

    strides: of the maps, finest first, powers of two. op: "align" (`roi_align`, which sampling_ratio, aligned and impl are
      of), "pool" (`roi_pool`) or "warp" (`roi_warp`). canonical_size: side in pixels of the RoIs that go to the level of
      stride 16.
    Raises ValueError for another op.
    """

    strides: Sequence[int]
    sampling_ratio: int = 2
    aligned: bool = True
    impl: str = "gather"
    canonical_size: float = 224
    op: str = "align"

    def __call__(self, maps: Sequence[jax.Array], rois: jax.Array, size: int) -> jax.Array:
        if self.op not in ("align", "pool", "warp"):
            raise ValueError(f'roi_op {self.op!r} is not one of "align", "pool", "warp".')
        lowest, highest = (stride.bit_length() - 1 for stride in (self.strides[0], self.strides[-1]))
        scales = [1 / stride for stride in self.strides]

        def one(maps, rois):
            levels = assign_levels(rois, lowest, highest, canonical_size=self.canonical_size)
            if self.op == "align":
                return pyramid_roi_align(
                    maps, rois, levels, size, scales, self.sampling_ratio, aligned=self.aligned, impl=self.impl
                )
            crop = roi_pool if self.op == "pool" else roi_warp
            crops = [crop(features, rois, size, scale) for features, scale in zip(maps, scales)]
            return sum(jnp.where((levels == i)[:, None, None, None], x, 0) for i, x in enumerate(crops))

        return jax.vmap(one)(list(maps), jnp.asarray(rois))


class BoxHead(nn.Module):
    """RoI features (B,R,7,7,C) to `roi_logits` (B,R,num_classes) and `roi_deltas` (B,R,K,4), K = num_classes, or 1 where
    class_agnostic.

    fcs: dense layers, fc6 and so on, each with `dropout` behind it; without any, the mean of the cells takes their place.
    ranks: of each, None where it is whole: see `jaxvision.models.detection.two_stage.svd`.
    """

    num_classes: int
    features: int = 1024
    convs: Sequence[int] = ()
    fcs: int = 2
    norm: str = "none"
    axis: str | None = None
    class_agnostic: bool = False
    dropout: float = 0.0
    ranks: Sequence[int | None] = ()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        batch, rois = x.shape[:2]
        x = x.reshape(batch * rois, *x.shape[2:])
        for i, features in enumerate(self.convs):
            x = Conv(features, 3, bias=self.norm == "none", name=f"conv{i}")(x)
            x = nn.relu(Norm(self.norm, axis=self.axis, name=f"norm{i}")(x, train))
        x = x.reshape(len(x), -1) if self.fcs else x.astype(jnp.float32).mean((1, 2))
        for i in range(self.fcs):
            name, rank = f"fc{6 + i}", self.ranks[i] if i < len(self.ranks) else None
            if rank is not None:
                x = nn.Dense(rank, use_bias=False, kernel_init=he_normal, name=f"{name}_in")(x)
            x = nn.relu(nn.Dense(self.features, kernel_init=he_normal, name=name if rank is None else f"{name}_out")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        logits = nn.Dense(self.num_classes, kernel_init=normal(0.01), name="logits")(x)
        kinds = 1 if self.class_agnostic else self.num_classes
        deltas = nn.Dense(4 * kinds, kernel_init=normal(0.001), name="deltas")(x)
        return logits.reshape(batch, rois, -1), deltas.reshape(batch, rois, kinds, 4)


class MaskHead(nn.Module):
    """RoI features (B,R,s,s,C) to mask logits (B,R,2s,2s,K), K = num_classes, or 1 where class_agnostic.

    features: of the transposed convolution; None: as many as it sees.
    """

    num_classes: int
    convs: Sequence[int] = (256, 256, 256, 256)
    features: int | None = None
    norm: str = "none"
    axis: str | None = None
    class_agnostic: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        batch, rois, side = x.shape[:3]
        x = x.reshape(batch * rois, *x.shape[2:])
        for i, features in enumerate(self.convs):
            x = Conv(features, 3, bias=self.norm == "none", name=f"conv{i}")(x)
            x = nn.relu(Norm(self.norm, axis=self.axis, name=f"norm{i}")(x, train))
        # A 2x2 transposed convolution at stride 2: every cell becomes four, each by a matrix of its own.
        features = self.features or x.shape[-1]
        x = nn.Dense(4 * features, use_bias=False, kernel_init=he_normal, name="upsample")(x)
        x = x.reshape(-1, side, side, 2, 2, features).swapaxes(2, 3).reshape(-1, 2 * side, 2 * side, features)
        x = nn.relu(x + self.param("upsample_bias", nn.initializers.zeros, (features,)))
        kinds = 1 if self.class_agnostic else self.num_classes
        logits = Conv(kinds, 1, kernel_init=he_normal, name="logits")(x)
        return logits.reshape(batch, rois, 2 * side, 2 * side, kinds)


def of_class(values: jax.Array, classes: jax.Array) -> jax.Array:
    """values (B,R,K,...) of each row's class (B,R): (B,R,...); K = 1 serves every class."""
    if values.shape[2] == 1:
        return values[:, :, 0]
    index = classes.reshape(*classes.shape, *(1,) * (values.ndim - 2))
    return jnp.take_along_axis(values, index, 2)[:, :, 0]


def label_rois(
    proposals: jax.Array,
    proposals_valid: jax.Array,
    batch: Mapping[str, jax.Array],
    high: float = 0.5,
    background: float = 0.0,
) -> dict[str, jax.Array]:
    """All RoIs that may be learned from, the proposals (B,P,4) and the ground truth itself: `rois` (B,P+N,4), `rois_valid`,
    `roi_matches` (the row of the ground truth) and `roi_classes` (0: background), (B,P+N) each.

    A RoI is an object from an overlap of `high` on, and background below it; below `background` it is neither.
    """

    def one(proposals, proposals_valid, boxes, valid, classes):
        rois = jnp.concatenate([jax.lax.stop_gradient(proposals), boxes])
        overlaps = box_ops.iou(boxes, rois)
        matches = match(overlaps, valid, high, high)
        usable = jnp.concatenate([proposals_valid, valid])
        if background:
            usable &= jnp.where(valid[:, None], overlaps, 0).max(0) >= background
        positive, matches = matches >= 0, jnp.maximum(matches, 0)
        return rois, usable, matches, jnp.where(positive, classes[matches], 0)

    found = jax.vmap(one)(proposals, proposals_valid, batch["boxes"], batch["valid"], batch["classes"])
    return dict(zip(("rois", "rois_valid", "roi_matches", "roi_classes"), found))


def sample_rois(
    proposals: jax.Array,
    proposals_valid: jax.Array,
    batch: Mapping[str, jax.Array],
    keys: jax.Array,
    *,
    samples: int,
    positive_fraction: float,
    high: float = 0.5,
    background: float = 0.0,
) -> dict[str, jax.Array]:
    """Of `label_rois` those to learn from, in the same four arrays, S = samples of each image, positives first."""

    def one(rois, usable, matches, classes, key):
        priorities = jax.random.uniform(key, matches.shape)
        objects = usable & (classes > 0), usable & (classes == 0)
        indices, kept, positive = sample(*objects, priorities, samples, positive_fraction)
        rows = (jnp.where(positive, labels[indices], 0) for labels in (matches, classes))
        return rois[indices], kept, *rows

    labelled = label_rois(proposals, proposals_valid, batch, high, background)
    return dict(zip(labelled, jax.vmap(one)(*labelled.values(), keys)))


def first_positives(found: Mapping[str, jax.Array], count: int) -> tuple[jax.Array, jax.Array]:
    """Of sampled RoIs the first `count`, (B,count,4), all there may be positives among; and how many lie beyond, (B,)."""
    return found["rois"][:, :count], (found["roi_classes"][:, count:] > 0).sum(1)


def roi_losses(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], real, box_beta: float = 1 / 9) -> dict:
    """`roi_class` and `roi_box`, both over the number of sampled RoIs. box_beta: of `smooth_l1`; Fast R-CNN's is 1."""
    valid = outputs["rois_valid"] if real is None else outputs["rois_valid"] & real[:, None]
    (total, count), (box, _) = _roi_terms(*_told_and_true(outputs, batch), valid, box_beta)
    return {"roi_class": (total, count), "roi_box": (box, count)}


def roi_errors(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], box_beta: float = 1 / 9) -> jax.Array:
    """The sum of both losses of every RoI, (B,R); 0 where it is not valid."""
    one = jax.vmap(jax.vmap(functools.partial(_roi_terms, beta=box_beta)))
    (total, _), (box, _) = one(*_told_and_true(outputs, batch), outputs["rois_valid"])
    return total + box


def _told_and_true(outputs, batch):
    """Logits and offsets that the head gives a RoI for its class, the class, and the true offsets."""
    classes = outputs["roi_classes"]
    boxes = jnp.take_along_axis(batch["boxes"], outputs["roi_matches"][..., None], 1)
    targets = box_ops.encode(boxes, outputs["rois"], BOX_WEIGHTS)
    return outputs["roi_logits"], of_class(outputs["roi_deltas"], classes), classes, targets


def _roi_terms(logits, deltas, classes, targets, valid, beta):
    box = smooth_l1(deltas, targets, valid & (classes > 0), beta)
    return softmax_cross_entropy(logits, classes, valid), box


def mask_losses(
    outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], real, aligned: bool = True, rule: str = "sigmoid"
) -> dict:
    """`mask`: cross-entropy over the cells of the positive RoIs.

    aligned: of the targets, see `mask_targets`; False goes with torchvision's adaptive number of samples.
    rule: "sigmoid", of the true class's map alone; "softmax", of all classes in each cell, the background class 0 beyond the
      object: classes compete for cells then, which the paper's table 2b shows to be worse.
    """
    logits = outputs["mask_logits"]
    count, side = logits.shape[1:3]
    rois, matches, classes = (outputs[name][:, :count] for name in ("rois", "roi_matches", "roi_classes"))
    valid = outputs["rois_valid"][:, :count] & (classes > 0)
    valid = valid if real is None else valid & real[:, None]
    resample = functools.partial(mask_targets, size=side, sampling_ratio=2 if aligned else -1, aligned=aligned)
    targets = jax.vmap(resample)(batch["masks"], batch["mask_boxes"], rois, matches)
    if rule == "softmax":
        logs = jax.nn.log_softmax(shield(logits, valid))
        own = of_class(jnp.moveaxis(logs, -1, 2), classes)
        return {"mask": total(-targets * own - (1 - targets) * logs[..., 0], spread(valid, targets.shape))}
    return {"mask": sigmoid_cross_entropy(of_class(jnp.moveaxis(logits, -1, 2), classes), targets, valid)}


def detect(
    proposals: jax.Array,
    proposals_valid: jax.Array,
    logits: jax.Array,
    deltas: jax.Array,
    image_size: jax.Array,
    **options,
) -> dict[str, jax.Array]:
    """Final `boxes` (B,D,4), `classes`, `scores`, `valid` (B,D), best first, `score_logits` (B,D), their classes' logits, and
    `overflow` (B,), of which `best_detections` has the options.

    Every proposal is moved by the deltas of every class (or of the one set there is), and NMS runs within each class.
    """

    def one(rois, usable, logits, deltas, size):
        boxes = box_ops.decode(deltas, rois[:, None], BOX_WEIGHTS)
        boxes = boxes if boxes.shape[1] == 1 else boxes[:, 1:]
        return best_detections(boxes, jax.nn.softmax(logits)[:, 1:], logits[:, 1:], usable, size, **options)

    return blank(jax.vmap(one)(proposals, proposals_valid, logits, deltas, image_size))


def best_detections(
    boxes: jax.Array,
    scores: jax.Array,
    logits: jax.Array,
    usable: jax.Array,
    size: jax.Array,
    *,
    score_threshold: float,
    nms_threshold: float,
    detections: int,
    candidates: int,
    min_side: float = 1e-2,
) -> dict[str, jax.Array]:
    """What is found in one image among regions that are `usable` (R,), with scores and logits (R,K) of the classes 1 to K and
    boxes (R,K,4), or (R,1,4) for all of them.

    `overflow` (): how many boxes above the score threshold did not fit among the `candidates` for NMS and were missed. There
    are none to miss where the best candidates fill all `detections`.
    """
    boxes = box_ops.clip(boxes, size)
    large = jnp.all(boxes[..., 2:] - boxes[..., :2] >= min_side, -1)
    eligible = (usable[:, None] & large & (scores > score_threshold)).reshape(-1)
    kinds = scores.shape[1]
    best, index = jax.lax.top_k(jnp.where(eligible, scores.reshape(-1), -1.0), min(candidates, eligible.size))
    row, kind = index // kinds, index % kinds
    boxes = boxes[row, jnp.minimum(kind, boxes.shape[1] - 1)]
    kept, valid = top_detections(boxes, best, kind, best > 0, nms_threshold, detections)
    overflow = jnp.where(valid.all(), 0, jnp.maximum(eligible.sum() - candidates, 0))
    found = {"boxes": boxes[kept], "classes": kind[kept] + 1, "scores": best[kept], "valid": valid}
    return found | {"score_logits": logits[row[kept], kind[kept]], "overflow": overflow}
