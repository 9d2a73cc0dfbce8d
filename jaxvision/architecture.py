"""An architecture: a model, its losses and its predictions, under one name.

A new architecture is one file with a function that returns an `Architecture`, and one line in `REGISTRY`.
"""

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn

from jaxvision.suggest import suggest

REGISTRY = {
    "acol": "jaxvision.models.weak.acol:acol",
    "alexnet": "jaxvision.models.backbones.alexnet:alexnet",
    "cam": "jaxvision.models.weak.cam:cam",
    "classification_localization": "jaxvision.models.single_object.classification_localization:classification_localization",
    "crf_rnn": "jaxvision.models.segmentation.crf_rnn:crf_rnn",
    "darknet": "jaxvision.models.backbones.darknet:darknet",
    "deconvnet": "jaxvision.models.segmentation.deconvnet:deconvnet",
    "deeplabv3": "jaxvision.models.segmentation.deeplabv3:deeplabv3",
    "deeplabv3plus": "jaxvision.models.segmentation.deeplabv3plus:deeplabv3plus",
    "dilated": "jaxvision.models.segmentation.dilated:dilated",
    "fast_rcnn": "jaxvision.models.detection.fast_rcnn:fast_rcnn",
    "faster_rcnn": "jaxvision.models.detection.faster_rcnn:faster_rcnn",
    "fcn32s": "jaxvision.models.segmentation.fcn:fcn32s",
    "fcn16s": "jaxvision.models.segmentation.fcn:fcn16s",
    "fcn8s": "jaxvision.models.segmentation.fcn:fcn8s",
    "fcn_resnet": "jaxvision.models.segmentation.fcn_resnet:fcn_resnet",
    "fcos": "jaxvision.models.detection.fcos:fcos",
    "full_resolution": "jaxvision.models.segmentation.full_resolution:full_resolution",
    "googlenet": "jaxvision.models.backbones.googlenet:googlenet",
    "keypoint_rcnn": "jaxvision.models.detection.keypoint_rcnn:keypoint_rcnn",
    "lraspp": "jaxvision.models.segmentation.lraspp:lraspp",
    "mask_rcnn": "jaxvision.models.detection.mask_rcnn:mask_rcnn",
    "mobilenet_v3": "jaxvision.models.backbones.mobilenet_v3:mobilenet_v3",
    "nin": "jaxvision.models.backbones.nin:nin",
    "pose": "jaxvision.models.single_object.pose:pose",
    "rcnn": "jaxvision.models.detection.rcnn:rcnn",
    "regression_detector": "jaxvision.models.detection.regression_detector:regression_detector",
    "resnet": "jaxvision.models.backbones.resnet:resnet",
    "retinanet": "jaxvision.models.detection.retinanet:retinanet",
    "sliding_window": "jaxvision.models.segmentation.sliding_window:sliding_window",
    "sliding_window_detector": "jaxvision.models.detection.sliding_window_detector:sliding_window_detector",
    "sppnet": "jaxvision.models.detection.sppnet:sppnet",
    "squeezenet": "jaxvision.models.backbones.squeezenet:squeezenet",
    "ssd": "jaxvision.models.detection.ssd:ssd",
    "ssdlite": "jaxvision.models.detection.ssdlite:ssdlite",
    "unet": "jaxvision.models.segmentation.unet:unet",
    "vgg": "jaxvision.models.backbones.vgg:vgg",
    "yolo": "jaxvision.models.detection.yolo:yolo",
    "zfnet": "jaxvision.models.backbones.zfnet:zfnet",
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What a step, a predictor and an evaluator need to know of a network.

    model: a Linen module, `apply(variables, batch, train=False) -> outputs`, a flat dict of named arrays.
    losses: `(outputs, batch) -> {name: (sum, count)}`, float32 scalars; the loss is sum / max(count, 1), weighted and added.
    predict: `(outputs, batch) -> predictions`, static shapes, in pixels of the canvas.
    task: name of the task in `jaxvision.tasks`, which knows the batch fields, the scores and the pictures.
    weights: factor of each loss, 1 where absent.
    options: what it was created with, enough to create it again.
    predictor: keyword arguments with which a `Predictor` of it begins: how its weights want images resized, its classes' names.
    """

    name: str
    model: nn.Module
    losses: Callable[[Mapping[str, jax.Array], Mapping[str, jax.Array]], dict[str, tuple[jax.Array, jax.Array]]]
    predict: Callable[[Mapping[str, jax.Array], Mapping[str, jax.Array]], dict[str, jax.Array]]
    task: str
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    predictor: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def _init(self):
        # Runs once: a quick compilation counts for more than quick code.
        quick = {"xla_backend_optimization_level": 0}
        return jax.jit(functools.partial(self.model.init, train=False), compiler_options=quick)

    def init(self, key: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, Any]:
        """Variables as plain nested dicts: `params`, and `batch_stats` where the model has BatchNorm.

        It may be traced, as in `jax.eval_shape(architecture.init, key, batch)`.
        """
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((key, batch)))
        variables = (self._init.__wrapped__ if traced else self._init)(key, batch)
        return {name: value for name, value in variables.items() if name in ("params", "batch_stats")}

    def with_weights(self, weights: Mapping[str, float]) -> "Architecture":
        """The same architecture with some loss weights replaced."""
        return dataclasses.replace(self, weights={**self.weights, **weights}) if weights else self


def extends(base: Callable) -> Callable:
    """Decorates a function whose `**options` are those of `base` that have a default: its signature names them all."""

    def decorate(function: Callable) -> Callable:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = {p.name for p in own}
        options = [p for p in inspect.signature(base).parameters.values() if p.default is not p.empty]
        others = [p.replace(kind=p.KEYWORD_ONLY) for p in options if p.name not in taken]
        function.__signature__ = inspect.Signature(own + others)
        return function

    return decorate


def names() -> list[str]:
    """Every registered architecture."""
    return sorted(REGISTRY)


def options_of(name: str) -> Mapping[str, inspect.Parameter]:
    """The options of an architecture's function. Raises ValueError for an unknown name, with the nearest known one."""
    return inspect.signature(_function(name)).parameters


def _function(name: str) -> Callable:
    if name not in REGISTRY:
        raise ValueError(f"There is no architecture {name!r}; {suggest(name, REGISTRY)}")
    module, function = REGISTRY[name].split(":")
    return getattr(importlib.import_module(module), function)


def create(name: str, **options) -> Architecture:
    """The architecture registered as `name`, built with `options` (those of its function).

    Raises ValueError for an unknown name or option, with the nearest known one.
    """
    known = options_of(name)
    for option in options:
        if option not in known:
            raise ValueError(f"Architecture {name!r} has no option {option!r}; {suggest(option, known)}")
    required = [k for k, p in known.items() if p.default is inspect.Parameter.empty and k not in options]
    if required:
        raise ValueError(f"Architecture {name!r} needs the option(s) {', '.join(required)}.")
    return dataclasses.replace(_function(name)(**options), name=name, options=dict(options))
