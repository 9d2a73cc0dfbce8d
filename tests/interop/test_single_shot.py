"""RetinaNet and FCOS against torchvision's own outputs."""

import functools

import jax
import numpy as np
import pytest
from torch_golden import (
    both,
    check_detections,
    check_gradients,
    check_losses,
    check_names,
    check_pyramid,
    detections,
    expected,
    golden,
    load,
    optimized_jit,
    single,
)

from jaxvision.interop.convert import abstract, from_torch, to_torch
from jaxvision.interop.single_shot import BUILDERS

LOSSES = {"class": "classification", "box": "bbox_regression", "centerness": "bbox_ctrness"}
LEVELS = {"p3": "0", "p4": "1", "p5": "2", "p6": "p6", "p7": "p7"}

loaded = functools.cache(lambda name: load(BUILDERS[name], name))


@functools.cache
def forwarded(name: str, index: int, few: bool) -> tuple[dict, dict]:
    """(outputs, detections in pixels of the original) of one image on its own canvas."""
    threshold = {"score_threshold": float(golden(name)[f"few.threshold.{index}"])} if few else {}
    architecture, batch = BUILDERS[name].create(**threshold), single(name, index)

    @optimized_jit
    def forward(variables):
        outputs = architecture.model.apply(variables, batch)
        return outputs, architecture.predict(outputs, batch)

    outputs, predictions = jax.device_get(forward(loaded(name)))
    return outputs, detections(name, index, predictions)


# Names


@pytest.mark.parametrize("name", BUILDERS)
def test_every_entry_has_torchvisions_name_and_shape(name):
    check_names(BUILDERS[name], name)


SMALL = dict(
    num_classes=4, backbone="resnet18_fpn", depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), stem_width=8, fpn=8, head_convs=2
)


@pytest.fixture(scope="module", params=BUILDERS)
def small(request):
    builder = BUILDERS[request.param]
    shapes = abstract(builder.create(**SMALL))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    return builder, shapes, variables


def test_to_torch_and_back_is_exact(small):
    builder, shapes, variables = small
    entries = to_torch(builder, variables)
    again = from_torch(builder, shapes, entries)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_names_of_old_files_are_understood(small):
    """FPN convolutions had no ".0", and RetinaNet's head was a sequence of convolutions and ReLUs."""
    builder, shapes, variables = small
    entries = {k: v for k, v in to_torch(builder, variables).items() if not k.endswith("num_batches_tracked")}
    old = {}
    for name, value in entries.items():
        if "inner_blocks" in name or "layer_blocks" in name:
            name = name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        if builder is BUILDERS["retinanet_resnet50_fpn"]:
            for i in range(2):
                name = name.replace(f"_head.conv.{i}.0.", f"_head.conv.{2 * i}.")
        old[name] = value
    assert old.keys() != entries.keys()
    jax.tree.map(np.testing.assert_array_equal, from_torch(builder, shapes, builder.today(old)), variables)


# Numbers


@pytest.mark.parity
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("name", BUILDERS)
def test_pyramid(name, index):
    check_pyramid(name, index, forwarded(name, index, False)[0], LEVELS)


@pytest.mark.parity
@pytest.mark.parametrize("few", [False, True], ids=["all", "few"])
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("name", BUILDERS)
def test_detections(name, index, few):
    outputs, found = forwarded(name, index, few)
    assert outputs["overflow"][0] == 0 or not few
    check_detections(found, expected(name, index, few), few, corner=0.01)


@functools.cache
def learned(name: str) -> tuple[dict, dict]:
    """(losses, gradients by torch's names) of both images on one canvas."""
    builder, batch = BUILDERS[name], both(name)
    architecture = builder.create()

    @optimized_jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def gradient(params, variables):
        terms = architecture.losses(architecture.model.apply({**variables, "params": params}, batch), batch)
        means = {key: total / jax.numpy.maximum(count, 1) for key, (total, count) in terms.items()}
        return sum(means.values()), means

    variables = loaded(name)
    (_, means), gradients = jax.device_get(gradient(variables["params"], variables))
    return means, to_torch(builder, {"params": gradients})


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("name", BUILDERS)
def test_losses(name):
    check_losses(name, learned(name)[0], LOSSES)


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("name", BUILDERS)
def test_gradients(name):
    check_gradients(name, learned(name)[1])
