"""Semantic maps from maps of classes and the classes that an image is known to have."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.ops.crf import Settings, mean_field
from jaxvision.ops.resize import resize

IGNORED = 255
FLOOR = 1e-5  # what a probability counts at least, as its logarithm is taken


def normalized_maps(maps: Array, present: Array, canvas: tuple[int, int], covered: Array) -> Array:
    """Maps (B, h, w, K), what is negative made 0, bilinearly on a canvas (height, width), each divided by its greatest value on
    the picture: (B, height, width, K) float32 in 0..1.

    present (B, K) bool: classes of the image; the maps of others are 0. covered (B, height, width): where the picture lies. A
    class that has no evidence anywhere stays 0.
    """
    maps = resize(jnp.maximum(maps.astype(jnp.float32), 0), canvas)
    maps = jnp.where(present[:, None, None, :] & covered[..., None], maps, 0)
    top = maps.max((1, 2), keepdims=True)
    return maps / jnp.where(top > 0, top, 1)


def pseudo_labels(
    maps: Array,
    present: Array,
    image: Array,
    image_size: Array,
    threshold: float = 0.3,
    certain: float = 0.0,
    crf: Settings | None = None,
    method: str = "fast",
) -> Array:
    """(B, H, W) int32 classes, 0 the background and k + 1 the k-th class, 255 where nothing is said and beyond the picture.

    maps (B, h, w, K): evidence of each class on a grid over the canvas, as of CAM. present (B, K) bool: the image's classes, the
    only ones that are given. image (B, H, W, 3): RGB in 0..255, which lies within image_size (B, 2).

    Each map is divided by its greatest value (`normalized_maps`). With the background at `threshold` everywhere they are
    divided by their sum, perhaps refined by a dense CRF, whose deviations are in pixels of the canvas, and the most probable
    one is taken; where it has less than `certain`, none. So without a CRF a class wins where it has more than `threshold` of
    its greatest value and no other has more of its own.
    """
    canvas = image.shape[1:3]
    rows, columns = (jnp.arange(n) < image_size[:, i, None] for i, n in enumerate(canvas))
    covered = rows[:, :, None] & columns[:, None, :]
    scores = normalized_maps(maps, present, canvas, covered)
    ground = jnp.full((*scores.shape[:3], 1), threshold, jnp.float32)
    shares = jnp.concatenate([ground, scores], -1)
    shares /= shares.sum(-1, keepdims=True)
    if crf is not None:
        logits = jnp.log(jnp.maximum(shares, FLOOR))
        refined = lax.map(
            lambda example: mean_field(example[0], example[1], crf, example[2], method), (logits, image, covered)
        )
        shares = jax.nn.softmax(refined)
    possible = jnp.concatenate([jnp.ones((len(present), 1), bool), present], 1)[:, None, None, :]
    shares = jnp.where(possible, shares, -1)
    labels = jnp.where(shares.max(-1) >= certain, shares.argmax(-1), IGNORED)
    return jnp.where(covered, labels, IGNORED).astype(jnp.int32)
