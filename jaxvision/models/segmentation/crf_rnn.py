"""A segmenter with a dense CRF behind it, trained end to end (Zheng et al., "Conditional Random Fields as Recurrent Neural
Networks", ICCV 2015).

Departure: any segmenter may be the base, where the paper has FCN-8s; and see `CRFRNN`.
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from jaxvision.architecture import Architecture, create
from jaxvision.layers.crf_rnn import CRFRNN
from jaxvision.models.segmentation.objective import segmenter
from jaxvision.ops.crf import METHODS, PRESETS
from jaxvision.ops.images import colours
from jaxvision.suggest import suggest


class CRFSegmenter(nn.Module):
    """`logits` (B,H,W,num_classes) refined, beside the base's outputs, whose own are `unary_logits`."""

    base: nn.Module
    crf: CRFRNN

    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        outputs = self.base(batch, train)
        if "logits" not in outputs:
            raise ValueError("The base of a CRF scores every pixel in training too: of a sliding_window set samples=0.")
        refined = self.crf(outputs["logits"], colours(batch["image"]), batch["image_size"], train)
        return {**outputs, "unary_logits": outputs["logits"], "logits": refined}


def crf_rnn(
    num_classes: int,
    base: Mapping[str, Any] | None = None,
    preset: str = "crf_rnn",
    weights: str = "class",
    iterations: tuple[int, int] = (5, 10),
    method: str = "fast",
    loss: Mapping[str, Any] | None = None,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = None,
) -> Architecture:
    """A segmenter with a CRF that learns.

    base: `name` and options of the segmenter; None is FCN-8s as published. preset: of `jaxvision.ops.crf.PRESETS`, where the
    CRF begins. weights, iterations (in training and otherwise), method: see `CRFRNN`. axis, remat, dtype: the base's.
    Raises ValueError for another preset or method, and a base that is no segmenter or has a loss of its own.
    """
    if preset not in PRESETS:
        raise ValueError(f"There is no preset {preset!r}; {suggest(preset, PRESETS)}")
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not one of {', '.join(METHODS)}.")
    given = {"axis": axis, "remat": remat or None, "dtype": dtype}
    options = {**{name: value for name, value in given.items() if value is not None}, **(base or {"name": "fcn8s"})}
    if "name" not in options:
        raise ValueError("The base of a CRF needs the name of its architecture: base=dict(name=...).")
    if options.get("loss"):
        raise ValueError("The base of a CRF learns from the refined scores: give `loss` to crf_rnn, not to its base.")
    below = create(options.pop("name"), num_classes=num_classes, **options)
    if below.task != "segmentation":
        raise ValueError(f"The base of a CRF is a segmenter; {below.name} is for {below.task}.")
    crf = CRFRNN(PRESETS[preset], weights, tuple(iterations), method)
    return segmenter("crf_rnn", CRFSegmenter(below.model, crf), loss, below.weights)
