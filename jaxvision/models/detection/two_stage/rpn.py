"""The region proposal network (Ren et al., "Faster R-CNN", NeurIPS 2015), by torchvision's rules."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxvision.layers.conv import Conv
from jaxvision.losses.box_regression import smooth_l1
from jaxvision.losses.cross_entropy import sigmoid_cross_entropy
from jaxvision.ops import boxes as box_ops
from jaxvision.ops.anchors import pyramid_anchors
from jaxvision.ops.matching import BELOW, BETWEEN, match
from jaxvision.ops.nms import top_detections
from jaxvision.ops.sampling import sample

normal = nn.initializers.normal


class RPN(nn.Module):
    """Scores, moves and picks anchors on a pyramid of maps.

    sizes: anchor sizes in pixels, a tuple a level; ratios: height / width. pre_nms: the best anchors a level that are kept
      before NMS, post_nms: proposals an image after it, each (in training, otherwise).
    score_threshold, min_side: proposals of a lower objectness (0..1) or a shorter side are dropped before NMS.
    samples, positive_fraction, high, low: of the anchors that are trained on. border: whether those that cross the
      image's border are among them; as published they are not.
    legacy: anchors rounded as the authors' code has them, see `legacy_anchors`.
    """

    sizes: Sequence[Sequence[float]]
    ratios: Sequence[float] = (0.5, 1.0, 2.0)
    features: int = 256
    convs: int = 1
    pre_nms: tuple[int, int] = (2000, 1000)
    post_nms: tuple[int, int] = (2000, 1000)
    nms_threshold: float = 0.7
    score_threshold: float = 0.0
    min_side: float = 1e-3
    samples: int = 256
    positive_fraction: float = 0.5
    high: float = 0.7
    low: float = 0.3
    border: bool = True
    legacy: bool = False

    @nn.compact
    def __call__(
        self, maps: Sequence[jax.Array], image_size: jax.Array, canvas: tuple[int, int], train: bool
    ) -> dict[str, jax.Array]:
        """`anchors` (A,4), `rpn_logits` (B,A), `rpn_deltas` (B,A,4), `proposals` (B,P,4), `proposals_valid` (B,P)."""
        count = len(self.ratios) * len(self.sizes[0])
        convs = [Conv(self.features, 3, kernel_init=normal(0.01), name=f"conv{i}") for i in range(self.convs)]
        objectness = Conv(count, 1, kernel_init=normal(0.01), name="logits")
        moves = Conv(4 * count, 1, kernel_init=normal(0.01), name="deltas")
        logits, deltas = [], []
        for x in maps:
            for conv in convs:
                x = nn.relu(conv(x))
            logits.append(objectness(x).reshape(len(x), -1))
            deltas.append(moves(x).reshape(len(x), -1, 4))
        shapes = [x.shape[1:3] for x in maps]
        strides = [(canvas[0] // h, canvas[1] // w) for h, w in shapes]
        levels = pyramid_anchors(self.sizes, self.ratios, shapes, strides, self.legacy)
        proposals, valid = jax.vmap(lambda *image: self._propose(levels, train, *image))(
            jax.lax.stop_gradient(logits), jax.lax.stop_gradient(deltas), image_size
        )
        return {
            "anchors": jnp.array(np.concatenate(levels)),
            "rpn_logits": jnp.concatenate(logits, 1),
            "rpn_deltas": jnp.concatenate(deltas, 1),
            "proposals": proposals,
            "proposals_valid": valid,
        }

    def _propose(self, anchors, train, logits, deltas, image_size):
        """One image: the best anchors of each level, moved, clipped, and thinned by NMS within their level."""
        boxes, scores, levels = [], [], []
        for level, (a, s, d) in enumerate(zip(anchors, logits, deltas)):
            s, best = jax.lax.top_k(s, min(self.pre_nms[not train], len(a)))
            boxes.append(box_ops.clip(box_ops.decode(d[best], jnp.array(a)[best]), image_size))
            scores.append(s)
            levels.append(jnp.full(len(s), level))
        boxes, scores, levels = map(jnp.concatenate, (boxes, scores, levels))
        usable = jnp.all(boxes[:, 2:] - boxes[:, :2] >= self.min_side, -1)
        usable &= jax.nn.sigmoid(scores) >= self.score_threshold
        indices, valid = top_detections(boxes, scores, levels, usable, self.nms_threshold, self.post_nms[not train])
        return boxes[indices], valid

    @nn.nowrap
    def sample(self, anchors: jax.Array, batch: Mapping[str, jax.Array], keys: jax.Array) -> dict[str, jax.Array]:
        """The anchors to learn from, S an image: `rpn_samples` (B,S), `rpn_samples_valid`, `rpn_positive` and
        `rpn_matches` (B,S), the row of each one's ground truth."""

        def one(boxes, valid, size, key):
            overlaps = box_ops.iou(boxes, anchors)
            inside = (anchors == box_ops.clip(anchors, size)).all(-1) | self.border
            # No ground truth takes an anchor that is left out for its best one.
            matches = match(jnp.where(inside, overlaps, 0), valid, self.high, self.low, low_quality=True)
            matches = jnp.where(inside, matches, BETWEEN)
            priorities = jax.random.uniform(key, matches.shape)
            indices, kept, positive = sample(
                matches >= 0, matches == BELOW, priorities, self.samples, self.positive_fraction
            )
            return indices, kept, positive, jnp.maximum(matches[indices], 0)

        indices, kept, positive, matches = jax.vmap(one)(batch["boxes"], batch["valid"], batch["image_size"], keys)
        return {"rpn_samples": indices, "rpn_samples_valid": kept, "rpn_positive": positive, "rpn_matches": matches}


def rpn_losses(
    outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], real, anchors_per_location: int | None = None
) -> dict:
    """`rpn_objectness` and `rpn_box`, both over the number of sampled anchors, as the authors' code has it.

    With `anchors_per_location` the second is over the number of the anchors' locations, as the paper has it, where it then
    weighs 10.
    """
    indices, positive = outputs["rpn_samples"], outputs["rpn_positive"]
    valid = outputs["rpn_samples_valid"] if real is None else outputs["rpn_samples_valid"] & real[:, None]
    logits = jnp.take_along_axis(outputs["rpn_logits"], indices, 1)
    deltas = jnp.take_along_axis(outputs["rpn_deltas"], indices[..., None], 1)
    boxes = jnp.take_along_axis(batch["boxes"], outputs["rpn_matches"][..., None], 1)
    targets = box_ops.encode(boxes, outputs["anchors"][indices])
    box, _ = smooth_l1(deltas, targets, valid & positive)
    objectness, count = sigmoid_cross_entropy(logits, positive.astype(jnp.float32), valid)
    over = count
    if anchors_per_location is not None:
        images = jnp.float32(len(indices)) if real is None else real.sum(dtype=jnp.float32)
        over = images * (len(outputs["anchors"]) // anchors_per_location)
    return {"rpn_objectness": (objectness, count), "rpn_box": (box, over)}
