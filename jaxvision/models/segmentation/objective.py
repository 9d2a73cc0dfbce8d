"""What a segmenter learns from: a loss of its pixels and losses of whole regions, chosen by an option; and its predictions."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.batch import real_rows
from jaxvision.losses.cross_entropy import binary_cross_entropy, softmax_losses, weights_of
from jaxvision.losses.focal import focal_losses
from jaxvision.losses.mining import hard_pixels
from jaxvision.losses.overlap import dice, lovasz_softmax
from jaxvision.losses.reduction import shield
from jaxvision.models.segmentation.sec import sec_losses
from jaxvision.ops.crf import METHODS, choose
from jaxvision.suggest import suggest

REGIONS = {"dice": dice, "lovasz": lovasz_softmax}
HEADS = (("", "logits"), ("aux", "aux_logits"))
IGNORE = 255


def segmentation_losses(
    outputs: Mapping[str, jax.Array],
    batch: Mapping[str, jax.Array],
    pixel: str = "softmax",
    class_weights: Sequence[float] | None = None,
    hard: float | None = None,
    over: str = "pixels",
    alpha: float = 0.25,
    gamma: float = 2.0,
    regions: Sequence[str] = (),
    sec: Mapping[str, Any] | None = None,
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """{"pixel": of every pixel that is not 255, "aux": the same of `aux_logits`, where there are any, and each of `regions`}.

    pixel: "softmax" cross-entropy; "sigmoid", the sum of a binary one for each class, for classes that overlap where the
      batch has `semantic_labels`; or "focal", the same with the factors of `alpha` and `gamma`.
    class_weights: of each class, by which its pixels count in the sum and, over pixels, in the count.
    hard: learn from that fraction of each image's pixels alone, those of the greatest loss.
    over: "pixels", their mean; or "images", the sum over an image's pixels, which is FCN's unnormalised loss.
    regions: "dice", "lovasz", terms of their own.
    sec: options of `sec_losses`, whose three terms take the place of all others: `semantic` then holds seeds.

    Where the batch has `pixel_weights` (U-Net's) the losses are multiplied by them, and not the count.
    Raises ValueError where there are not as many class weights as classes.
    """
    if sec is not None:
        return sec_losses(outputs["logits"], batch, **sec)
    semantic, real = batch["semantic"], real_rows(batch)
    terms = {}
    for name, key in HEADS:
        if key not in outputs:
            continue
        logits = outputs[key]
        losses, valid = _per_pixel(pixel, logits, batch, alpha, gamma)
        if hard is not None:
            valid = hard_pixels(losses, valid, hard)
        weights = valid.astype(jnp.float32)
        if class_weights is not None:
            if len(class_weights) != logits.shape[-1]:
                raise ValueError(f"{len(class_weights)} class_weights for {logits.shape[-1]} classes.")
            weights = weights_of(semantic, valid, class_weights)
        count = weights.sum() if over == "pixels" else _images(semantic, real)
        if "pixel_weights" in batch:
            losses = losses * batch["pixel_weights"]
        terms[name or "pixel"] = (losses * weights).sum(), count
    return terms | {region: REGIONS[region](outputs["logits"], semantic, real, IGNORE) for region in regions}


def _per_pixel(kind: str, logits: jax.Array, batch, alpha: float, gamma: float) -> tuple[jax.Array, jax.Array]:
    """Losses (B,H,W), float32, and which of them count."""
    losses, valid = softmax_losses(logits, batch["semantic"], real_rows(batch), IGNORE)
    if kind == "softmax":
        return losses, valid
    one = jax.nn.one_hot(batch["semantic"], logits.shape[-1])
    targets = batch.get("semantic_labels", one).astype(jnp.float32)
    logits = shield(logits, valid)
    if kind == "sigmoid":
        return binary_cross_entropy(logits, targets).sum(-1), valid
    return focal_losses(logits, targets, alpha, gamma).sum(-1), valid


def _images(semantic: jax.Array, real: jax.Array | None) -> jax.Array:
    return jnp.float32(len(semantic)) if real is None else real.sum(dtype=jnp.float32)


def objective(loss: Mapping[str, Any] | None) -> Callable:
    """`segmentation_losses` with the options `loss`. Raises ValueError for an unknown one, or a value that cannot be meant."""
    loss = dict(loss or {})
    known = list(inspect.signature(segmentation_losses).parameters)[2:]
    for name in loss:
        if name not in known:
            raise ValueError(f"A segmenter's loss has no option {name!r}; {suggest(name, known)}")
    choices = {"pixel": ("softmax", "sigmoid", "focal"), "over": ("pixels", "images")}
    for name, values in choices.items():
        if loss.get(name, values[0]) not in values:
            raise ValueError(f"loss: {name} {loss[name]!r} is not one of {', '.join(values)}.")
    for region in loss.get("regions", ()):
        if region not in REGIONS:
            raise ValueError(f"loss: there is no region loss {region!r}; {suggest(region, REGIONS)}")
    if loss.get("hard") is not None and not 0 < loss["hard"] <= 1:
        raise ValueError(f"loss: hard is {loss['hard']}, expected a fraction above 0 and at most 1.")
    if loss.get("alpha", 0) > 1 or loss.get("gamma", 0) < 0:
        raise ValueError(f"loss: focal loss wants alpha <= 1 and gamma >= 0, got {loss}.")
    if loss.get("sec") is not None:
        _check_sec(loss)
    return functools.partial(segmentation_losses, **loss) if loss else segmentation_losses


def _check_sec(loss: Mapping[str, Any]) -> None:
    """Raises ValueError for options that cannot be meant."""
    if len(loss) > 1:
        raise ValueError(f"loss: sec takes the place of all others; leave out {', '.join(set(loss) - {'sec'})}.")
    options, known = loss["sec"], list(inspect.signature(sec_losses).parameters)[2:]
    for name in options:
        if name not in known:
            raise ValueError(f"loss: sec has no option {name!r}; {suggest(name, known)}")
    for name in ("foreground", "background", "absent"):
        if not 0 <= options.get(name, 0) <= 1:
            raise ValueError(f"loss: sec's {name} is {options[name]}, a decay is in 0..1.")
    if options.get("method", METHODS[0]) not in METHODS:
        raise ValueError(f"loss: sec's method {options['method']!r} is not one of {', '.join(METHODS)}.")
    choose(options.get("crf", "sec"))


def segmentation_predict(outputs, batch):
    """{"semantic": (B,H,W) int32, the class of each pixel}."""
    return {"semantic": jnp.argmax(outputs["logits"], -1).astype(jnp.int32)}


def segmenter(
    name: str, model: nn.Module, loss: Mapping[str, Any] | None, weights: Mapping[str, float] | None = None
) -> Architecture:
    """The `Architecture` of a model that returns `logits` (B,H,W,num_classes), and perhaps `aux_logits`.

    loss: options of `segmentation_losses`. weights: of its terms, of which none is left with `sec`.
    """
    weights = {} if loss and loss.get("sec") is not None else weights
    return Architecture(name, model, objective(loss), segmentation_predict, "segmentation", weights or {})
