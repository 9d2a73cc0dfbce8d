"""torchvision's classifiers: entries and shapes of their state dicts, logits, and the way back."""

import functools
import json
import pathlib
import re
import runpy
import types

import jax
import numpy as np
import pytest

from jaxvision.interop.classifiers import BUILDERS
from jaxvision.interop.convert import StateDictError, abstract, from_torch, places, to_torch

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
formula = types.SimpleNamespace(**runpy.run_path(str(GOLDEN / "formula.py")))
LIGHT = ("resnet18", "squeezenet1_1")
HEAVY = ("alexnet", "googlenet", "resnet34", "resnet50", "resnet101", "vgg11", "vgg16", "vgg16_bn", "vgg19")

PARAMETERS = {
    "alexnet": 61_100_840,
    "googlenet": 13_004_888,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
    "wide_resnet50_2": 68_883_240,
}


def golden_shapes(name):
    return {key: tuple(shape) for key, shape in json.loads((GOLDEN / f"{name}.shapes.json").read_text()).items()}


@functools.cache
def shapes(name, **options):
    return abstract(BUILDERS[name].create(**options))


def entries_of(name, variables) -> dict[str, tuple]:
    """The state dict's names and shapes."""
    builder, found = BUILDERS[name], {}
    for place, (_, leaf) in places(variables).items():
        found[builder.name(place)] = builder.layout(place, np.broadcast_to(False, leaf.shape), True).shape
    counters = {key.replace("running_var", "num_batches_tracked"): () for key in found if key.endswith("running_var")}
    return found | counters


# What torch's modules are called, one after the other.


def conv(name, out, inner, kernel, bias=True):
    return {f"{name}.weight": (out, inner, kernel, kernel)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name, channels):
    entries = {f"{name}.{leaf}": (channels,) for leaf in ("weight", "bias", "running_mean", "running_var")}
    return entries | {f"{name}.num_batches_tracked": ()}


def dense(name, out, inner):
    return {f"{name}.weight": (out, inner), f"{name}.bias": (out,)}


def vgg(widths, normed):
    entries, place, channels = {}, 0, 3
    for width in widths:
        if width == "M":
            place += 1
            continue
        entries |= conv(f"features.{place}", width, channels, 3)
        entries |= norm(f"features.{place + 1}", width) if normed else {}
        place, channels = place + 2 + normed, width
    heads = [(0, 4096, 512 * 49), (3, 4096, 4096), (6, 1000, 4096)]
    return entries | {k: v for i, out, inner in heads for k, v in dense(f"classifier.{i}", out, inner).items()}


def squeezenet1_0():
    fires = {3: (96, 16), 4: (128, 16), 5: (128, 32), 7: (256, 32), 8: (256, 48), 9: (384, 48), 10: (384, 64)}
    entries = conv("features.0", 96, 3, 7) | conv("classifier.1", 1000, 512, 1)
    for place, (channels, squeeze) in {**fires, 12: (512, 64)}.items():
        entries |= conv(f"features.{place}.squeeze", squeeze, channels, 1)
        entries |= conv(f"features.{place}.expand1x1", 4 * squeeze, squeeze, 1)
        entries |= conv(f"features.{place}.expand3x3", 4 * squeeze, squeeze, 3)
    return entries


def bottlenecks(depths, inner, groups=1):
    entries = conv("conv1", 64, 3, 7, bias=False) | norm("bn1", 64) | dense("fc", 1000, 2048)
    channels = 64
    for stage, depth in enumerate(depths):
        wide, out = inner << stage, 256 << stage
        for i in range(depth):
            block = f"layer{stage + 1}.{i}"
            for n, (o, c, k) in enumerate([(wide, channels, 1), (wide, wide // groups, 3), (out, wide, 1)], 1):
                entries |= conv(f"{block}.conv{n}", o, c, k, bias=False) | norm(f"{block}.bn{n}", o)
            if i == 0:
                entries |= conv(f"{block}.downsample.0", out, channels, 1, bias=False)
                entries |= norm(f"{block}.downsample.1", out)
            channels = out
    return entries


VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
VGG13 = (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
VGG19 = (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M")
STRUCTURES = {
    "vgg11_bn": vgg(VGG11, True),
    "vgg13": vgg(VGG13, False),
    "vgg13_bn": vgg(VGG13, True),
    "vgg19_bn": vgg(VGG19, True),
    "squeezenet1_0": squeezenet1_0(),
    "resnet152": bottlenecks((3, 8, 36, 3), 64),
    "resnext50_32x4d": bottlenecks((3, 4, 6, 3), 128, groups=32),
    "wide_resnet50_2": bottlenecks((3, 4, 6, 3), 128),
}
COUNTS = {
    "alexnet": 16,
    "googlenet": 364,
    "resnet18": 122,
    "resnet50": 320,
    "resnet152": 932,
    "squeezenet1_0": 52,
    "vgg11": 22,
    "vgg16": 32,
    "vgg16_bn": 97,
    "vgg19_bn": 118,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_entries_shapes_and_sizes_are_torchvisions(name):
    variables = shapes(name)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == PARAMETERS[name]
    assert set(PARAMETERS) == set(BUILDERS)
    entries = entries_of(name, variables)
    assert entries == (STRUCTURES[name] if name in STRUCTURES else golden_shapes(name))
    assert len(entries) == COUNTS.get(name, len(entries))


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "resnet18", "squeezenet1_0", "vgg11_bn"])
def test_head_names_what_depends_on_the_number_of_classes(name):
    many, few = places(shapes(name)), places(shapes(name, num_classes=7))
    changed = {place for place in many if many[place][1].shape != few[place][1].shape}
    assert changed == {place for place in many if any(re.search(pattern, place) for pattern in BUILDERS[name].head)}


@pytest.mark.parametrize("name", [*LIGHT, *(pytest.param(name, marks=pytest.mark.parity) for name in HEAVY)])
def test_logits_are_torchvisions_and_weights_come_back(name):
    builder = BUILDERS[name]
    architecture = builder.create()
    entries = formula.state_dict(golden_shapes(name))
    variables = from_torch(builder, abstract(architecture), entries)
    back = to_torch(builder, variables)
    assert back.keys() == entries.keys()
    for key, value in entries.items():
        assert back[key].dtype == value.dtype
        np.testing.assert_array_equal(back[key], value, err_msg=key)
    del back, entries
    batch = {"image": formula.image("classify", 224, 224)[None], "image_size": np.array([[224, 224]], np.int32)}
    logits = jax.jit(lambda v: architecture.model.apply(v, batch)["logits"])(variables)
    expected = np.load(GOLDEN / f"{name}.npz")["logits"]
    assert expected.std() > 0
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


def test_anothers_state_dict_is_refused_with_names():
    entries = {name: np.broadcast_to(np.float32(0), shape) for name, shape in squeezenet1_0().items()}
    with pytest.raises(StateDictError) as caught:
        from_torch(BUILDERS["squeezenet1_1"], shapes("squeezenet1_1"), entries)
    for line in ("shape of features.0.weight: (96, 3, 7, 7), not (64, 3, 3, 3)", "missing: features.6.squeeze.weight"):
        assert line in str(caught.value)
