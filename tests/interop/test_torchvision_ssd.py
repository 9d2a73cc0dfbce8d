"""SSD against torchvision's own outputs, rebuilt weights and pictures."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_golden import (
    SIZES,
    check_detections,
    check_gradients,
    check_losses,
    check_names,
    check_pyramid,
    expected,
    formula,
    golden,
    gradients_in_float64,
    load,
    optimized_jit,
)

from jaxvision.interop.convert import to_torch
from jaxvision.interop.ssd import BUILDERS

SIDES = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}
MAPS = {
    "ssd300_vgg16": ("conv4", "conv7", "extra1", "extra2", "extra3", "extra4"),
    "ssdlite320_mobilenet_v3_large": ("c4_expanded", "final", "extra1", "extra2", "extra3", "extra4"),
}
LOSSES = {"class": "classification", "box": "bbox_regression"}

loaded = functools.cache(lambda name: load(BUILDERS[name], name))


@pytest.mark.parametrize("name", BUILDERS)
def test_every_entry_has_torchvisions_name_and_shape(name):
    check_names(BUILDERS[name], name)


def batch(name: str, *numbers: int) -> dict[str, np.ndarray]:
    """Pictures stretched to the canvas, their boxes with them."""
    side, rows = SIDES[name], {"image": [], "boxes": [], "classes": []}
    for i in numbers:
        height, width = SIZES[i]
        picture = formula.image(f"detect{i}", height, width).astype(jnp.float32)
        rows["image"].append(cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR))
        rows["boxes"].append(golden(name)[f"target.boxes.{i}"] * np.float32([side / width, side / height] * 2))
        rows["classes"].append(golden(name)[f"target.labels.{i}"].astype(np.int32))
    fields = {field: np.stack(values) for field, values in rows.items()}
    sizes = np.full((len(numbers), 2), side, np.int32)
    return {**fields, "image_size": sizes, "valid": np.ones(fields["classes"].shape, bool)}


@functools.cache
def forwarded(name: str, i: int) -> dict:
    return jax.device_get(optimized_jit(BUILDERS[name].create().model.apply)(loaded(name), batch(name, i)))


@pytest.mark.parity
@pytest.mark.parametrize("i", [0, 1])
@pytest.mark.parametrize("name", BUILDERS)
def test_maps(name, i):
    check_pyramid(name, i, forwarded(name, i), {ours: str(key) for key, ours in enumerate(MAPS[name])})


@pytest.mark.parity
@pytest.mark.parametrize("few", [False, True], ids=["all", "few"])
@pytest.mark.parametrize("i", [0, 1])
@pytest.mark.parametrize("name", BUILDERS)
def test_detections(name, i, few):
    outputs = forwarded(name, i)
    rows = outputs["valid"][0] & (outputs["scores"][0] > (golden(name)[f"few.threshold.{i}"] if few else 0))
    found = {key: outputs[key][0][rows] for key in ("boxes", "classes", "scores")}
    found["boxes"] = found["boxes"] * np.tile(np.float32(SIZES[i])[::-1] / SIDES[name], 2)
    pairs = check_detections(found, expected(name, i, few), few, corner=0)
    assert pairs.any(0).mean() >= 0.98


@functools.cache
def learned(name: str) -> tuple[dict, dict]:
    """(losses, gradients by torch's names) of both pictures."""
    architecture, pictures = BUILDERS[name].create(), batch(name, 0, 1)

    @optimized_jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def gradient(params, variables):
        outputs = architecture.model.apply({**variables, "params": params}, pictures)
        means = {key: total / count for key, (total, count) in architecture.losses(outputs, pictures).items()}
        return sum(means.values()), means

    variables = loaded(name)
    (_, means), gradients = jax.device_get(gradient(variables["params"], variables))
    return means, to_torch(BUILDERS[name], {"params": gradients})


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("name", BUILDERS)
def test_losses(name):
    check_losses(name, learned(name)[0], LOSSES)


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("name", BUILDERS)
def test_gradients(name, tmp_path):
    check_gradients(name, gradients_in_float64("test_torchvision_ssd", name, tmp_path))
