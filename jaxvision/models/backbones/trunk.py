"""The trunk of any registered classifier, for networks that put something else on it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from jaxvision.architecture import create, options_of
from jaxvision.models.backbones.classification import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.suggest import suggest


def described(backbone: str | Mapping[str, Any]) -> dict[str, Any]:
    """A backbone as a dict of `name` and options. Raises ValueError for one without a name."""
    backbone = {"name": backbone} if isinstance(backbone, str) else dict(backbone)
    if "name" not in backbone:
        raise ValueError("A backbone needs the name of a classifier: backbone=dict(name='resnet', ...).")
    return backbone


def classifier_trunk(backbone: str | Mapping[str, Any], **options) -> tuple[nn.Module, tuple, tuple]:
    """(the trunk, mean and deviation of the colours that it takes) of a registered classifier.

    backbone: its name, or a dict of `name` and options: those of its function, and what its trunk's module has beside them,
    as VGG's `last_pool`. options: more of them, which go before those; None is none.
    Raises ValueError for what is no classifier, and for an option that it has not.
    """
    given = described(backbone) | {name: value for name, value in options.items() if value is not None}
    name = given.pop("name")
    known = options_of(name)
    classifier = create(name, num_classes=1, **{option: given.pop(option) for option in [*given] if option in known})
    model = classifier.model
    if classifier.task != "classification" or not hasattr(model, "trunk"):
        raise ValueError(
            f"A backbone is a classifier with a trunk; {classifier.name!r}, for {classifier.task}, is none."
        )
    fields = {field.name for field in dataclasses.fields(model.trunk)} - {"parent", "name"}
    for option in given:
        if option not in fields:
            raise ValueError(f"The backbone {name!r} has no option {option!r}; {suggest(option, {*known, *fields})}")
    trunk = model.trunk.clone(**given)
    if getattr(model, "transform_input", False):
        return trunk, (0.5,) * 3, (0.5,) * 3
    return trunk, getattr(model, "mean", IMAGENET_MEAN), getattr(model, "std", IMAGENET_STD)
