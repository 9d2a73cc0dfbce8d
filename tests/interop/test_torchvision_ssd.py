"""SSD against torchvision's own outputs, rebuilt weights and pictures."""

import json
import pathlib
import sys

import cv2
import jax
import numpy as np
import pytest

from jaxvision.interop.convert import abstract, from_torch, to_torch
from jaxvision.interop.ssd import BUILDERS
from jaxvision.ops.boxes import iou

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import formula  # noqa: E402

SIZES = [(160, 200), (180, 120)]


@pytest.mark.parametrize("name", BUILDERS)
def test_every_entry_has_torchvisions_name_and_shape(name):
    shapes = json.loads((GOLDEN / f"{name}.shapes.json").read_text())
    builder = BUILDERS[name]
    variables = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), abstract(builder.create()))
    assert {key: list(value.shape) for key, value in to_torch(builder, variables).items()} == shapes


class Golden:
    """A model with the formula's weights, its evaluation, and what torchvision made of it."""

    def __init__(self, name: str, side: int):
        self.arrays = np.load(GOLDEN / f"{name}.npz")
        shapes = json.loads((GOLDEN / f"{name}.shapes.json").read_text())
        self.builder, self.side = BUILDERS[name], side
        self.architecture = self.builder.create()
        self.variables = from_torch(self.builder, abstract(self.architecture), formula.state_dict(shapes))
        self.forward = jax.jit(self.architecture.model.apply)

    def batch(self, *numbers: int) -> dict[str, np.ndarray]:
        """Pictures stretched to the canvas, their boxes with them."""
        side, rows = self.side, {"image": [], "boxes": [], "classes": []}
        for i in numbers:
            height, width = SIZES[i]
            picture = formula.image(f"detect{i}", height, width)
            rows["image"].append(cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR))
            rows["boxes"].append(self.arrays[f"target.boxes.{i}"] * np.float32([side / width, side / height] * 2))
            rows["classes"].append(self.arrays[f"target.labels.{i}"].astype(np.int32))
        batch = {field: np.stack(values) for field, values in rows.items()}
        sizes = np.full((len(numbers), 2), side, np.int32)
        return {**batch, "image_size": sizes, "valid": np.ones(batch["classes"].shape, bool)}

    def detections(self, i: int, outputs, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = np.array(outputs["valid"][0] & (outputs["scores"][0] > threshold))
        ratio = np.float32([SIZES[i][1] / self.side, SIZES[i][0] / self.side] * 2)
        return tuple(np.array(outputs[name][0])[rows] for name in ("boxes", "classes", "scores")) + (ratio,)


def matched(found, boxes, labels, scores) -> float:
    """The share of torchvision's detections that are among those found."""
    ours, classes, probabilities, ratio = found
    same = (np.array(iou(boxes, ours * ratio)) > 0.99) & (labels[:, None] == classes)
    return np.mean((same & (abs(scores[:, None] - probabilities) < 1e-3)).any(1))


def check_outputs(golden: Golden, i: int, maps):
    """Maps, detections at the usual threshold, and those of a threshold that few pass."""
    arrays = golden.arrays
    outputs = jax.device_get(golden.forward(golden.variables, golden.batch(i)))
    for key, name in enumerate(maps):
        wanted = arrays[f"feature.{key}.{i}"][0].transpose(1, 2, 0)
        error = abs(outputs[name][0, ::2, ::2, ::16] - wanted).max() / abs(wanted).max()
        assert error < 1e-4, (name, error)
    wanted = (arrays[f"{name}.{i}"] for name in ("boxes", "labels", "scores"))
    assert matched(golden.detections(i, outputs, 0), *wanted) >= 0.98
    few = [arrays[f"few.{name}.{i}"] for name in ("boxes", "labels", "scores")]
    found = golden.detections(i, outputs, arrays[f"few.threshold.{i}"])
    assert abs(len(found[0]) - len(few[0])) <= 1 and matched(found, *few) >= 0.98


def check_losses_and_gradients(golden: Golden, names: dict[str, str]):
    """Losses, and gradients by their norms and by 16 entries."""
    arrays, batch = golden.arrays, golden.batch(0, 1)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        outputs = golden.architecture.model.apply({**golden.variables, "params": params}, batch)
        terms = golden.architecture.losses(outputs, batch)
        return sum(total / count for total, count in terms.values())

    outputs = golden.forward(golden.variables, batch)
    for name, (total, count) in golden.architecture.losses(outputs, batch).items():
        np.testing.assert_allclose(total / count, arrays[f"loss.{names[name]}"], rtol=1e-4, err_msg=name)
    value, gradient = loss(golden.variables["params"])
    np.testing.assert_allclose(value, sum(arrays[f"loss.{name}"] for name in names.values()), rtol=1e-4)
    entries = to_torch(golden.builder, {"params": gradient})
    largest = max(arrays[key] for key in arrays.files if key.startswith("gradnorm."))
    wanted = {key.removeprefix("gradnorm."): arrays[key] for key in arrays.files if key.startswith("gradnorm.")}
    assert wanted.keys() == entries.keys()
    for name, norm in wanted.items():
        np.testing.assert_allclose(np.linalg.norm(entries[name]), norm, rtol=1e-3, atol=1e-6 * largest, err_msg=name)
        flat = entries[name].ravel()
        entry = flat[:: max(1, flat.size // 16)][:16]
        tolerance = 1e-3 * abs(arrays[f"grad16.{name}"]).max() + 1e-6 * largest
        np.testing.assert_allclose(entry, arrays[f"grad16.{name}"], rtol=1e-3, atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def ssd300():
    return Golden("ssd300_vgg16", 300)


@pytest.mark.parity
@pytest.mark.parametrize("i", [0, 1])
def test_ssd300_detects_what_torchvision_does(ssd300, i):
    check_outputs(ssd300, i, ("conv4", "conv7", "extra1", "extra2", "extra3", "extra4"))


@pytest.mark.slow
@pytest.mark.parity
def test_ssd300_learns_what_torchvision_does(ssd300):
    check_losses_and_gradients(ssd300, {"class": "classification", "box": "bbox_regression"})


@pytest.fixture(scope="module")
def ssdlite320():
    return Golden("ssdlite320_mobilenet_v3_large", 320)


@pytest.mark.parity
@pytest.mark.parametrize("i", [0, 1])
def test_ssdlite320_detects_what_torchvision_does(ssdlite320, i):
    check_outputs(ssdlite320, i, ("c4_expanded", "final", "extra1", "extra2", "extra3", "extra4"))


@pytest.mark.slow
@pytest.mark.parity
def test_ssdlite320_learns_what_torchvision_does(ssdlite320):
    check_losses_and_gradients(ssdlite320, {"class": "classification", "box": "bbox_regression"})
