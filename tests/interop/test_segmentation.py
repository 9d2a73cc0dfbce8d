"""torchvision's segmenters against its own outputs, for a picture of odd sides.

The `_narrow` ones are torchvision's heads with 5 classes on a MobileNetV3 of width 0.25, or on a ResNet of bottlenecks
(1, 1, 2, 2) with a sixteenth of the channels.
"""

import json
import pathlib
import runpy
import types

import jax
import numpy as np
import pytest

from jaxvision.interop.convert import abstract, from_torch, places, to_torch
from jaxvision.interop.segmentation import BUILDERS

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
formula = types.SimpleNamespace(**runpy.run_path(str(GOLDEN / "formula.py")))
RESNET = {"num_classes": 5, "aux": True, "depths": (1, 1, 2, 2), "widths": (4, 8, 16, 32)}
NARROW = {
    "fcn_narrow": ("fcn_resnet50", RESNET),
    "deeplabv3_narrow": ("deeplabv3_resnet50", RESNET),
    "lraspp_narrow": ("lraspp_mobilenet_v3_large", {"num_classes": 5, "width": 0.25}),
}
# Parameters as published, and entries of the state dict, both with the auxiliary head.
PUBLISHED = {
    "fcn_resnet50": (35_322_218, 334),
    "fcn_resnet101": (54_314_346, 640),
    "deeplabv3_resnet50": (42_004_074, 370),
    "deeplabv3_resnet101": (60_996_202, 676),
    "deeplabv3_mobilenet_v3_large": (11_029_328, 360),
    "lraspp_mobilenet_v3_large": (3_221_538, 319),
}


def golden_shapes(name):
    return {key: tuple(shape) for key, shape in json.loads((GOLDEN / f"{name}.shapes.json").read_text()).items()}


def check(name, builder, options):
    architecture, entries = builder.create(**options), formula.state_dict(golden_shapes(name))
    variables = from_torch(builder, abstract(architecture), entries)
    back = to_torch(builder, variables)
    assert back.keys() == entries.keys()
    for key, value in entries.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)
    batch = {"image": formula.image("segment", 65, 81)[None], "image_size": np.array([[65, 81]], np.int32)}
    outputs = jax.jit(lambda v: architecture.model.apply(v, batch))(variables)
    expected = np.load(GOLDEN / f"{name}.npz")
    assert ("aux_logits" in outputs) == ("aux" in expected) == ("aux" in options)
    for ours, theirs in (("logits", "out"), ("aux_logits", "aux")):
        if theirs in expected:
            wanted = expected[theirs].transpose(0, 2, 3, 1)
            assert wanted.std() > 0
            np.testing.assert_allclose(outputs[ours], wanted, atol=1e-4 * np.abs(wanted).max(), rtol=0)
            print(name, ours, np.abs(outputs[ours] - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("name", NARROW)
def test_narrow_logits_are_torchvisions_and_weights_come_back(name):
    builder, options = NARROW[name]
    check(name, BUILDERS[builder], options)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large"])
def test_logits_are_torchvisions_and_weights_come_back(name):
    check(name, BUILDERS[name], {} if name.startswith("lraspp") else {"aux": True})


@pytest.mark.parametrize("name", BUILDERS)
def test_entries_sizes_and_heads_are_torchvisions(name):
    builder = BUILDERS[name]
    aux = {} if name.startswith("lraspp") else {"aux": True}
    variables = abstract(builder.create(**aux))
    parameters, count = PUBLISHED[name]
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    names = {builder.name(place) for place in places(variables)}
    names |= {key.replace("running_var", "num_batches_tracked") for key in names}
    assert len(names) == count
    if (GOLDEN / f"{name}.shapes.json").exists():
        assert names == golden_shapes(name).keys()
        many, few = places(variables), places(abstract(builder.create(**aux, num_classes=7)))
        changed = {place for place in many if many[place][1].shape != few[place][1].shape}
        assert changed == {place for place in many if builder.is_head(place)}


def test_a_file_says_whether_it_has_an_auxiliary_head():
    entries = golden_shapes("fcn_resnet50")
    assert BUILDERS["fcn_resnet50"].found_in(entries) == {"aux": True}
    assert BUILDERS["fcn_resnet50"].found_in({"backbone.conv1.weight": ()}) == {"aux": False}
