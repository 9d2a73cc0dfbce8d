"""RetinaNet and FCOS against torchvision's own outputs."""

import functools
import json
import pathlib
import sys

import jax
import numpy as np
import pytest

from jaxvision.interop.convert import abstract, from_torch, places, to_torch
from jaxvision.interop.single_shot import BUILDERS
from jaxvision.ops.boxes import iou
from jaxvision.ops.resize import resize

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import formula  # noqa: E402

SIZES = [(160, 200), (180, 120)]
LOSSES = {"class": "classification", "box": "bbox_regression", "centerness": "bbox_ctrness"}
LEVELS = {"p3": "0", "p4": "1", "p5": "2", "p6": "p6", "p7": "p7"}


@functools.cache
def golden(name: str) -> dict:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def entry_shapes(name: str) -> dict:
    return {k: tuple(v) for k, v in json.loads((GOLDEN / f"{name}.shapes.json").read_text()).items()}


@functools.cache
def loaded(name: str):
    shapes = abstract(BUILDERS[name].create())
    return from_torch(BUILDERS[name], shapes, formula.state_dict(entry_shapes(name)))


def on_canvas(index: int, size, canvas) -> np.ndarray:
    image = np.asarray(resize(formula.image(f"detect{index}", *SIZES[index]), tuple(size)))
    return np.pad(image, ((0, canvas[0] - size[0]), (0, canvas[1] - size[1]), (0, 0)))


@functools.cache
def forwarded(name: str, index: int, few: bool) -> tuple[dict, dict]:
    """(outputs, detections in pixels of the original) of one image on its own canvas."""
    found = golden(name)
    architecture = BUILDERS[name].create(**({"score_threshold": float(found[f"few.threshold.{index}"])} if few else {}))
    size = found[f"image_size.{index}"]
    image = on_canvas(index, size, found[f"input_shape.{index}"][2:])
    batch = {"image": image[None], "image_size": size[None].astype(np.int32)}

    @jax.jit
    def forward(variables):
        outputs = architecture.model.apply(variables, batch)
        return outputs, architecture.predict(outputs, batch)

    outputs, predictions = jax.device_get(forward(loaded(name)))
    rows = {key: value[0][predictions["valid"][0]] for key, value in predictions.items() if key != "overflow"}
    ratio = np.array(SIZES[index]) / size
    return outputs, {**rows, "boxes": rows["boxes"] * np.tile(ratio[::-1], 2)}


# Names


@pytest.mark.parametrize("name", BUILDERS)
def test_every_entry_has_torchvisions_name_and_shape(name):
    builder = BUILDERS[name]
    shapes = {
        builder.name(place): builder.layout(place, np.empty(leaf.shape, bool), True).shape
        for place, (_, leaf) in places(abstract(builder.create())).items()
    }
    assert shapes == {k: v for k, v in entry_shapes(name).items() if not k.endswith("num_batches_tracked")}


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
    outputs, _ = forwarded(name, index, False)
    for ours, theirs in LEVELS.items():
        expected = golden(name)[f"feature.{theirs}.{index}"].transpose(0, 2, 3, 1)
        found = outputs[ours][:, ::2, ::2, ::16]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=ours)


def unmatched(one: dict, other: dict) -> int:
    """Rows of one that have no row of the same class, place and score in the other; FCOS's boxes have no width here."""
    pairs = np.array(iou(one["boxes"], other["boxes"])) > 0.99
    pairs |= np.abs(one["boxes"][:, None] - other["boxes"]).max(-1) < 0.01
    pairs &= one["classes"][:, None] == other["classes"]
    pairs &= np.abs(one["scores"][:, None] - other["scores"]) < 1e-3
    return int((~pairs.any(1)).sum())


@pytest.mark.parity
@pytest.mark.parametrize("few", [False, True], ids=["all", "few"])
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("name", BUILDERS)
def test_detections(name, index, few):
    outputs, found = forwarded(name, index, few)
    prefix = "few." if few else ""
    keys = {"boxes": "boxes", "classes": "labels", "scores": "scores"}
    expected = {ours: golden(name)[f"{prefix}{theirs}.{index}"] for ours, theirs in keys.items()}
    count = len(expected["boxes"])
    assert abs(len(found["boxes"]) - count) <= few and (np.diff(found["scores"]) <= 0).all()
    assert outputs["overflow"][0] == 0 or not few
    limit = max(few, 0.02 * count)  # the box at the threshold may fall to either side
    assert unmatched(found, expected) <= limit and unmatched(expected, found) <= limit


@functools.cache
def learned(name: str) -> tuple[dict, dict]:
    """(losses, gradients by torch's names) of both images on one canvas."""
    found, builder = golden(name), BUILDERS[name]
    architecture = builder.create()
    canvas = found["batch_shape"][2:]
    sizes = [found[f"image_size.{i}"] for i in range(2)]
    ratios = [np.tile((size / np.array(SIZES[i]))[::-1], 2) for i, size in enumerate(sizes)]
    batch = {
        "image": np.stack([on_canvas(i, size, canvas) for i, size in enumerate(sizes)]),
        "image_size": np.array(sizes, np.int32),
        "boxes": np.stack([found[f"target.boxes.{i}"] * ratios[i] for i in range(2)]).astype(np.float32),
        "classes": np.stack([found[f"target.labels.{i}"] for i in range(2)]).astype(np.int32),
        "valid": np.ones((2, 4), bool),
    }

    @jax.jit
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
    means, _ = learned(name)
    assert len(means) == len([key for key in golden(name) if key.startswith("loss.")])
    for ours, value in means.items():
        assert value == pytest.approx(float(golden(name)[f"loss.{LOSSES[ours]}"]), rel=1e-4), ours


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("name", BUILDERS)
def test_gradients(name):
    _, gradients = learned(name)
    norms = {key[9:]: value for key, value in golden(name).items() if key.startswith("gradnorm.")}
    assert norms.keys() == gradients.keys()
    slack = 1e-6 * max(norms.values())
    for key, norm in norms.items():
        assert abs(np.linalg.norm(gradients[key]) - norm) <= 1e-3 * norm + slack, key
        entries = gradients[key].ravel()
        entries = entries[:: max(1, entries.size // 16)][:16]
        np.testing.assert_allclose(entries, golden(name)[f"grad16.{key}"], rtol=1e-3, atol=slack, err_msg=key)
