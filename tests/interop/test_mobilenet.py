"""torchvision's MobileNetV3 against its own outputs; those of the narrow ones have width 0.25 and a reduced tail."""

import json
import pathlib
import runpy
import types

import jax
import numpy as np
import pytest

from jaxvision.interop.convert import abstract, from_torch, places, to_torch
from jaxvision.interop.mobilenet import BUILDERS

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
formula = types.SimpleNamespace(**runpy.run_path(str(GOLDEN / "formula.py")))
NARROW = {"num_classes": 10, "width": 0.25, "reduce_tail": True}


def entries_of(name):
    shapes = json.loads((GOLDEN / f"{name}.shapes.json").read_text())
    return formula.state_dict({key: tuple(shape) for key, shape in shapes.items()})


def check(name, builder, picture, options):
    architecture, entries = builder.create(**options), entries_of(name)
    variables = from_torch(builder, abstract(architecture), entries)
    back = to_torch(builder, variables)
    assert back.keys() == entries.keys()
    for key, value in entries.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)
    image = formula.image(*picture)[None]
    batch = {"image": image, "image_size": np.array([image.shape[1:3]], np.int32)}
    logits = jax.jit(lambda v: architecture.model.apply(v, batch)["logits"])(variables)
    expected = np.load(GOLDEN / f"{name}.npz")["logits"]
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)
    print(name, np.abs(logits - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", BUILDERS)
def test_narrow_logits_are_torchvisions_and_weights_come_back(name):
    check(f"{name}_narrow", BUILDERS[name], ("segment", 65, 81), NARROW)


@pytest.mark.parity
@pytest.mark.parametrize("name", BUILDERS)
def test_logits_are_torchvisions_and_weights_come_back(name):
    check(name, BUILDERS[name], ("classify", 224, 224), {})


@pytest.mark.parametrize("name", BUILDERS)
def test_entries_are_torchvisions_and_the_head_is_what_depends_on_the_number_of_classes(name):
    builder = BUILDERS[name]
    many, few = (places(abstract(builder.create(**options))) for options in ({}, {"num_classes": 7}))
    shapes = json.loads((GOLDEN / f"{name}.shapes.json").read_text())
    counters = [key for key in shapes if key.endswith("num_batches_tracked")]
    assert {builder.name(place) for place in many} == shapes.keys() - counters
    assert {place for place in many if many[place][1].shape != few[place][1].shape} == {"head.weight", "head.bias"}
