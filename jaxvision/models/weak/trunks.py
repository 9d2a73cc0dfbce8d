"""Trunks of registered classifiers, up to one of their maps, for networks that end in maps of classes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from jaxvision.architecture import REGISTRY
from jaxvision.models.backbones.trunk import classifier_trunk, described
from jaxvision.ops.images import normalize
from jaxvision.suggest import suggest


class Form(NamedTuple):
    """A backbone as published: a registered classifier and its options, the map that is read, and the channels and groups of
    the 3x3 convolutions behind it."""

    backbone: Mapping[str, Any]
    layer: str = "c5"
    convs: tuple[int, ...] = ()
    groups: int = 1


def open_form(
    forms: Mapping[str, Form], backbone: str | Mapping[str, Any], **options
) -> tuple[Form, tuple[nn.Module, tuple, tuple]]:
    """(a published form, or of a registered classifier the form that is read at c5; its `classifier_trunk`).

    backbone: the name, or a dict of it and of options in place of the form's. options: as of `classifier_trunk`.
    Raises ValueError for another name, for what is no classifier, and for an option that it has not.
    """
    own = described(backbone)
    name = own.pop("name")
    if name not in {*forms, *REGISTRY}:
        raise ValueError(f"There is no backbone {name!r}; {suggest(name, {*forms, *REGISTRY})}")
    form = forms.get(name, Form({"name": name}))
    return form, classifier_trunk({**form.backbone, **own}, **options)


def read_map(
    trunk: nn.Module, layer: str, batch: Mapping[str, jax.Array], train: bool, mean, std
) -> tuple[dict[str, jax.Array], jax.Array]:
    """(all maps that the trunk makes of the batch's images, the one called `layer` (B,h,w,D)).

    Raises ValueError for a layer that there is not, with those that there are, and for one that has no space.
    """
    maps = trunk(normalize(batch["image"], batch["image_size"], mean, std), train)
    if layer not in maps:
        raise ValueError(f"The trunk has no map {layer!r}; {suggest(layer, maps)}")
    x = maps[layer]
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(
            f"{layer!r} is of shape {x.shape}, without a place in it: take an earlier map or larger images."
        )
    return maps, x
