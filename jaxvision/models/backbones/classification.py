"""What every classifier shares: its input, losses and predictions."""

from collections.abc import Mapping

import jax

from jaxvision.batch import real_rows
from jaxvision.losses.cross_entropy import softmax_cross_entropy
from jaxvision.ops.images import normalize

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def network_input(batch: Mapping[str, jax.Array], smallest: int = 1) -> jax.Array:
    """The images (B,H,W,3), normalised by ImageNet's mean and deviation.

    Raises ValueError where a side of the canvas is below `smallest`, of which a network's last map would be empty.
    """
    height, width = batch["image"].shape[1:3]
    if min(height, width) < smallest:
        raise ValueError(
            f"Images of {height}x{width} are too small for this network: enlarge them until the smallest side has "
            f"{smallest} pixels."
        )
    return normalize(batch["image"], batch["image_size"], IMAGENET_MEAN, IMAGENET_STD)


def classification_losses(outputs, batch):
    """{"class": softmax cross-entropy of each image's label}."""
    return {"class": softmax_cross_entropy(outputs["logits"], batch["label"], real_rows(batch))}


def classification_predict(outputs, batch):
    """{"probabilities": (B, K) float32}."""
    return {"probabilities": jax.nn.softmax(outputs["logits"])}
