"""What every classifier shares: its input, what it learns from, chosen by options, and its predictions."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.batch import real_rows
from jaxvision.losses.cross_entropy import binary_cross_entropy, softmax_losses
from jaxvision.losses.hinge import one_against_rest, sum_of_margins, worst_margin
from jaxvision.losses.reduction import shield, spread, total
from jaxvision.ops.images import normalize

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HEADS = (("class", "logits"), ("aux1", "aux1_logits"), ("aux2", "aux2_logits"))


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


def _one_hot(label: jax.Array, logits: jax.Array) -> jax.Array:
    return jax.nn.one_hot(label, logits.shape[-1], dtype=bool)


def _binary(logits: jax.Array, targets: jax.Array) -> jax.Array:
    return binary_cross_entropy(logits, targets.astype(jnp.float32)).sum(-1)


# Of scores (B,K) and a label (B,), or labels (B,K), to each image's loss (B,).
ONE = {
    "softmax": lambda logits, label: softmax_losses(logits, label)[0],
    "sigmoid": lambda logits, label: _binary(logits, _one_hot(label, logits)),
    "hinge": sum_of_margins,
    "crammer_singer": worst_margin,
    "one_against_rest": lambda logits, label: one_against_rest(logits, _one_hot(label, logits)),
}
SEVERAL = {"sigmoid": _binary, "hinge": one_against_rest}
COMPARED = ("softmax", "hinge", "crammer_singer")  # losses that weigh the classes' scores against each other


def classification_losses(outputs, batch, loss: str = "softmax", multi_label: bool = False):
    """{"class": of `logits`, and "aux1", "aux2" of those heads' where there are any}, each the mean over images.

    loss: of the image's `label` "softmax", cross-entropy; "sigmoid", a binary one for each class, summed; "hinge", the sum
      of all wrong classes' margins (Weston & Watkins; CS231n); "crammer_singer", the worst of them; or "one_against_rest",
      a binary hinge for each class, summed. With multi_label of its `labels` "sigmoid", or "hinge", one against the rest.

    Where pictures are mixed (`mix`, see `MixUp`) an image's loss is mix times that of its own label and 1 - mix times that
    of the other's.
    """
    name, losses = ("labels", SEVERAL[loss]) if multi_label else ("label", ONE[loss])
    terms = {}
    for term, key in HEADS:
        if key not in outputs:
            continue
        valid = spread(real_rows(batch), outputs[key].shape[:1])
        logits, truth, other = shield(outputs[key], valid), batch[name], batch.get(f"other_{name}")
        if not multi_label:
            valid &= (truth >= 0) & (truth < logits.shape[-1])
            truth = jnp.where(valid, truth, 0)
        value = losses(logits, truth)
        if other is not None:
            value = batch["mix"] * value + (1 - batch["mix"]) * losses(logits, other)
        terms[term] = total(value, valid)
    return terms


def classification_predict(outputs, batch, loss: str = "softmax", multi_label: bool = False):
    """{"probabilities": (B, K) float32}: the softmax of the scores where the loss compares them, else each one's sigmoid.

    Those of a hinge loss only rank the classes.
    """
    together = loss in COMPARED and not multi_label
    return {"probabilities": (jax.nn.softmax if together else jax.nn.sigmoid)(outputs["logits"])}


def classifier(
    name: str,
    model: nn.Module,
    loss: str | None = None,
    multi_label: bool = False,
    weights: Mapping[str, float] | None = None,
) -> Architecture:
    """The `Architecture` of a model that returns `logits` (B, num_classes), and perhaps `aux1_logits` and `aux2_logits`.

    loss, multi_label: as in `classification_losses`; by default "softmax", and "sigmoid" of several labels. weights: of the
    terms. Raises ValueError for a loss that is not one of them.
    """
    known = SEVERAL if multi_label else ONE
    loss = loss or next(iter(known))
    if loss not in known:
        kind = "several labels" if multi_label else "one label"
        raise ValueError(f"loss {loss!r} is not one of those of {kind}: {', '.join(known)}.")
    options = dict(loss=loss, multi_label=multi_label)
    losses, predict = (functools.partial(f, **options) for f in (classification_losses, classification_predict))
    return Architecture(name, model, losses, predict, "multi_label" if multi_label else "classification", weights or {})
