"""torchvision's models by their own names: its weights in, and back out."""

import dataclasses
import importlib
import os
from collections.abc import Mapping
from fractions import Fraction

import jax
import numpy as np

from jaxvision import tasks
from jaxvision.architecture import Architecture
from jaxvision.interop import convert
from jaxvision.interop.cards import CARDS, Card, published
from jaxvision.interop.files import WeightsError, published_digits, read_state_dict
from jaxvision.suggest import suggest

# The file of jaxvision/interop that has a builder.
_FILES = {
    "classifiers": (
        "alexnet googlenet resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d squeezenet1_0 squeezenet1_1 "
        "vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn wide_resnet50_2"
    ),
    "keypoint_rcnn": "keypointrcnn_resnet50_fpn",
    "mobilenet": "mobilenet_v3_large mobilenet_v3_small",
    "segmentation": (
        "deeplabv3_mobilenet_v3_large deeplabv3_resnet101 deeplabv3_resnet50 fcn_resnet101 fcn_resnet50 "
        "lraspp_mobilenet_v3_large"
    ),
    "single_shot": "fcos_resnet50_fpn retinanet_resnet50_fpn retinanet_resnet50_fpn_v2",
    "ssd": "ssd300_vgg16 ssdlite320_mobilenet_v3_large",
    "two_stage": (
        "fasterrcnn_mobilenet_v3_large_320_fpn fasterrcnn_mobilenet_v3_large_fpn fasterrcnn_resnet50_fpn "
        "fasterrcnn_resnet50_fpn_v2 maskrcnn_resnet50_fpn maskrcnn_resnet50_fpn_v2"
    ),
}
MODULES = {name: module for module, names in _FILES.items() for name in names.split()}

# Independent options, together: torchvision's numbers, or what is usual today.
PRESETS = {
    "torchvision": {"aligned": False, "precision": "highest", "mask_paste": "torchvision"},
    "modern": {"aligned": True, "precision": None, "mask_paste": "aligned"},
}


def builder_of(name: str) -> convert.Builder:
    """The `Builder` of that name. Raises ValueError for an unknown one, with the nearest."""
    if name not in MODULES:
        raise ValueError(f"torchvision has no model {name!r} that is known here; {suggest(name, MODULES)}")
    return importlib.import_module(f"jaxvision.interop.{MODULES[name]}").BUILDERS[name]


def load_torchvision(
    name: str,
    weights: Mapping | str | os.PathLike,
    card: str | None = None,
    *,
    key: jax.Array | None = None,
    preset: str = "torchvision",
    **options,
) -> tuple[Architecture, dict]:
    """(architecture, variables) of one of torchvision's models with its weights.

    name: torchvision's, "maskrcnn_resnet50_fpn"; `MODULES` lists them.
    weights: a mapping of names to arrays, a `.safetensors` file, or a `.pth` file, which needs torch. A published file's
      name ends in digits of its sha256, which are verified and imply the card. Names of old versions are understood.
    card: "COCO_V1" or another of `jaxvision.interop.cards`: what the state dict does not say. None is what torchvision
      builds with weights=None.
    options: those of the architecture (`score_threshold`, `nms_threshold`, ...), and of how a `Predictor` treats images:
      `min_size`, `max_size` of detectors, `precision`, `mask_paste`.
    num_classes, among the options: where the file's head has another number, the head is new and the rest is loaded; so it
      is with `joints` and the last layer of a keypoint head.
    key: draws a new head, also where the numbers agree; a head that has to be new is drawn with `jax.random.key(0)`.
    preset: "torchvision" or "modern", a set of defaults for `aligned`, `precision` and `mask_paste`.

    Raises ValueError for unknown names, WeightsError for a file that cannot be read or contradicts its card, and
    StateDictError that lists every entry that is missing, unexpected or of another shape.
    """
    builder = builder_of(name)
    card = _card_of(name, weights, card)
    facts = CARDS[name][card] if card else None
    predictor = {"resize": _resize(name, facts, options)}
    if preset not in PRESETS:
        raise ValueError(f"There is no preset {preset!r}; {suggest(preset, PRESETS)}")
    predictor |= {option: options.pop(option, PRESETS[preset][option]) for option in ("precision", "mask_paste")}
    if "aligned" in builder.options:
        options.setdefault("aligned", PRESETS[preset]["aligned"])
    entries = builder.today(read_state_dict(weights))
    architecture = _create(builder, facts, entries, options)
    shapes = convert.abstract(architecture)
    fresh = _new_head(builder, architecture, shapes, entries, "num_classes" in options, key)
    for option in builder.other_heads.keys() & options.keys():
        head = _head(builder, shapes, option)
        if any(builder.shape(p, leaf) != np.shape(entries.get(builder.name(p))) for p, leaf in head.items()):
            fresh |= _drawn(architecture, head, key)
    variables = convert.from_torch(builder, shapes, entries, fresh)
    if facts and not fresh and len(facts.categories) == architecture.options["num_classes"]:
        predictor["class_names"] = tuple(facts.categories)
    return dataclasses.replace(architecture, predictor=predictor), variables


def load_trunk(name: str, weights: Mapping | str | os.PathLike) -> dict[str, np.ndarray]:
    """{path: array} of a model's variables without its head, whatever the number of its classes: where a detector starts."""
    builder = builder_of(name)
    _card_of(name, weights, None)
    entries = builder.today(read_state_dict(weights))
    shapes = convert.abstract(builder.create(**builder.found_in(entries)))
    head = _head(builder, shapes)
    variables = convert.from_torch(builder, shapes, entries, {place: np.zeros(s.shape) for place, s in head.items()})
    return {
        "/".join(key.key for key in path): leaf
        for place, (path, leaf) in convert.places(variables).items()
        if place not in head
    }


def to_torchvision(name: str, variables: Mapping) -> dict[str, np.ndarray]:
    """The state dict, names to arrays in torch's layout, that torchvision's model of that name loads.

    The inverse of `load_torchvision`. `num_batches_tracked`, which only torch's BatchNorm without momentum reads, is 0.
    """
    return convert.to_torch(builder_of(name), variables)


def _card_of(name: str, weights, card: str | None) -> str | None:
    """The card that is asked for or that the file implies. Raises where the two disagree."""
    if card is not None and card not in CARDS[name]:
        raise ValueError(f"{name} has no card {card!r}; {suggest(card, CARDS[name])}")
    digits = published_digits(weights)
    found = published(digits) if digits else None
    if found is None:
        return card
    if found[0] != name:
        raise WeightsError(f"{weights}: these are torchvision's weights of {found[0]} ({found[1]}), not of {name}.")
    if card not in (None, found[1]):
        raise WeightsError(f"{weights}: this is the file of card {found[1]}, not {card}; leave the card out.")
    return found[1]


def _resize(name: str, facts: Card | None, options: dict) -> dict:
    """The rule of resizing; takes `min_size` and `max_size` out of the options."""
    rule = dict((facts or next(iter(CARDS[name].values()))).resize)
    return rule | {side: options.pop(side) for side in ("min_size", "max_size") if side in rule and side in options}


def _create(builder: convert.Builder, facts: Card | None, entries: Mapping, options: dict) -> Architecture:
    classes = options.get("num_classes", builder.options["num_classes"])
    if not isinstance(classes, int | np.integer) or classes < 1:
        raise ValueError(f"num_classes must be a whole number from 1 on, got {classes!r}.")
    architecture = builder.create(**{**(facts.options if facts else {}), **builder.found_in(entries), **options})
    if classes < 2 and "boxes" in tasks.get(architecture.task).fields:
        raise ValueError("num_classes counts the background: a detector needs at least 2.")
    return architecture


def _head(builder: convert.Builder, shapes: Mapping, option: str = "num_classes") -> dict:
    """{place: shape} of the entries that depend on the option."""
    return {place: leaf for place, (_, leaf) in convert.places(shapes).items() if builder.is_head(place, option)}


def _new_head(builder, architecture, shapes, entries, asked: bool, key) -> dict[str, np.ndarray]:
    """{place: value} of a new head, where one is needed; raises where it is needed and nobody asked for it."""
    head, counts = _head(builder, shapes), set()
    classes = architecture.options["num_classes"]
    for place, leaf in head.items():
        entry = entries.get(builder.name(place))
        wanted = builder.shape(place, leaf)
        if entry is not None and entry.shape != wanted and entry.shape[1:] == wanted[1:]:
            counts.add(Fraction(classes * len(entry), wanted[0]))
    if counts and not asked:
        found = " and ".join(str(count) for count in sorted(counts))
        raise convert.StateDictError(
            f"The state dict's head tells {found} classes apart, not {classes}. Pass num_classes={found} to load it as "
            "it is, or another num_classes for a new head on the loaded rest."
        )
    if key is None and not counts:
        return {}
    return _drawn(architecture, head, key)


def _drawn(architecture: Architecture, head: Mapping, key) -> dict[str, np.ndarray]:
    return convert.initial(architecture, head, jax.random.key(0) if key is None else key)
