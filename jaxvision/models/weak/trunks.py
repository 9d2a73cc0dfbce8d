"""Trunks of registered classifiers, up to one of their maps, for networks that end in maps of classes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from jaxvision.architecture import REGISTRY
from jaxvision.models.backbones.trunk import classifier_trunk
from jaxvision.ops.images import normalize
from jaxvision.suggest import suggest


class Form(NamedTuple):
    """A backbone as published: a registered classifier, its options, fields of its trunk, the map that is read, and the
    channels and groups of the 3x3 convolutions behind it."""

    name: str
    options: Mapping[str, Any] = {}
    trunk: Mapping[str, Any] = {}
    layer: str = "c5"
    convs: tuple[int, ...] = ()
    groups: int = 1


def open_form(forms: Mapping[str, Form], backbone: str) -> Form:
    """A published form, or a registered classifier that is read at c5 as it is. Raises ValueError for another name."""
    if backbone not in {*forms, *REGISTRY}:
        raise ValueError(f"There is no backbone {backbone!r}; {suggest(backbone, {*forms, *REGISTRY})}")
    return forms.get(backbone, Form(backbone))


def open_trunk(form: Form, options: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[nn.Module, tuple, tuple]:
    """(the trunk of the form's classifier, the mean and the deviation of the colours that it takes).

    options: of the classifier's function, fields: of the trunk's module; both in place of the form's.
    Raises ValueError for what is no classifier, another option or field.
    """
    trunk, *colours = classifier_trunk({"name": form.name, **form.options, **options})
    fields = {**form.trunk, **fields}
    known = {field.name for field in dataclasses.fields(trunk)} - {"parent", "name"}
    for field in fields:
        if field not in known:
            raise ValueError(f"The trunk of {form.name!r} has no field {field!r}; {suggest(field, known)}")
    return trunk.clone(**fields), *colours


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
