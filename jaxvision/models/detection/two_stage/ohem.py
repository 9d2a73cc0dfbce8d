"""Online hard example mining (Shrivastava, Gupta & Girshick, CVPR 2016): an image's RoIs of the greatest loss learn."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxvision.ops.nms import top_detections


def hardest_rois(
    candidates: Mapping[str, jax.Array], losses: jax.Array, samples: int, threshold: float = 0.7
) -> dict[str, jax.Array]:
    """Of labelled RoIs (see `label_rois`) with losses (B,N) the `samples` hardest of each image, in the same four arrays.

    Greedy NMS with the loss for score first takes away what overlaps a harder RoI by more than `threshold`: such RoIs have
    nearly the same loss, which would count twice. Positives come first, each kind hardest first.
    """

    def one(rois, valid, matches, classes, losses):
        hardest, kept = top_detections(rois, losses, None, valid, threshold, samples)
        order = jnp.argsort(jnp.where(kept, classes[hardest] == 0, 2), stable=True)
        hardest, kept = hardest[order], kept[order]
        return rois[hardest], kept, jnp.where(kept, matches[hardest], 0), jnp.where(kept, classes[hardest], 0)

    names = ("rois", "rois_valid", "roi_matches", "roi_classes")
    return dict(zip(names, jax.vmap(one)(*(candidates[name] for name in names), losses)))
