"""The trunk of any registered classifier, for networks that put something else on it."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from jaxvision.architecture import create
from jaxvision.models.backbones.classification import IMAGENET_MEAN, IMAGENET_STD


def classifier_trunk(backbone: str | Mapping[str, Any], **options) -> tuple[nn.Module, tuple, tuple]:
    """(the trunk, mean and deviation of the colours that it takes) of a registered classifier.

    backbone: its name, or a dict of `name` and options. options: more of them, which go before those; None is none.
    Raises ValueError for what is no classifier, and for an option that it has not.
    """
    described = {"name": backbone} if isinstance(backbone, str) else dict(backbone)
    if "name" not in described:
        raise ValueError("A backbone needs the name of a classifier: backbone=dict(name='resnet', ...).")
    described |= {name: value for name, value in options.items() if value is not None}
    classifier = create(described.pop("name"), num_classes=1, **described)
    model = classifier.model
    if classifier.task != "classification" or not hasattr(model, "trunk"):
        raise ValueError(
            f"A backbone is a classifier with a trunk; {classifier.name!r}, for {classifier.task}, is none."
        )
    if getattr(model, "transform_input", False):
        return model.trunk, (0.5,) * 3, (0.5,) * 3
    return model.trunk, getattr(model, "mean", IMAGENET_MEAN), getattr(model, "std", IMAGENET_STD)
