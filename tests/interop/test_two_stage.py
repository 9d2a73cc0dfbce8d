"""Faster and Mask R-CNN against torchvision's own outputs."""

import functools
import json
import pathlib
import sys

import jax
import numpy as np
import pytest

from jaxvision.interop.convert import abstract, from_torch, places, to_torch
from jaxvision.interop.two_stage import BUILDERS
from jaxvision.ops.boxes import iou
from jaxvision.ops.masks import paste_masks
from jaxvision.ops.resize import resize

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import formula  # noqa: E402

MODELS = [name for name in BUILDERS if "320" not in name]  # that differs in how many proposals it keeps
SIZES = [(160, 200), (180, 120)]
PYRAMID = {"p2": "0", "p3": "1", "p4": "2", "p5": "3", "p6": "pool"}
LIGHT_PYRAMID = {"p5": "0", "p6": "1", "p7": "pool"}
# Networks of full size: a slower compilation for quicker code, whatever the suite is compiled with.
optimized_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 2})
LOSSES = {
    "rpn_objectness": "objectness",
    "rpn_box": "rpn_box_reg",
    "roi_class": "classifier",
    "roi_box": "box_reg",
    "mask": "mask",
}


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
    """The picture at `size`, (1, H, W, 3) with zeros beyond."""
    image = np.asarray(resize(formula.image(f"detect{index}", *SIZES[index]), tuple(size)))
    return np.pad(image, ((0, canvas[0] - size[0]), (0, canvas[1] - size[1]), (0, 0)))[None]


def ratio(index: int, size) -> np.ndarray:
    """What brings boxes of the original to the picture at `size`."""
    return np.tile((size / np.array(SIZES[index]))[::-1], 2)


@functools.cache
def forwarded(name: str, index: int) -> tuple[dict, dict]:
    """(outputs, detections in pixels of the original) of one picture on its own canvas."""
    found, architecture = golden(name), BUILDERS[name].create()
    size = found[f"image_size.{index}"]
    batch = {
        "image": on_canvas(index, size, found[f"input_shape.{index}"][2:]),
        "image_size": size[None].astype(np.int32),
    }

    @optimized_jit
    def forward(variables):
        outputs = architecture.model.apply(variables, batch)
        return outputs, architecture.predict(outputs, batch)

    outputs, predictions = jax.device_get(forward(loaded(name)))
    rows = {key: value[0][predictions["valid"][0]] for key, value in predictions.items() if key != "overflow"}
    return outputs, {**rows, "boxes": rows["boxes"] / ratio(index, size)}


# Names


@pytest.mark.parametrize("name", MODELS)
def test_every_entry_has_torchvisions_name_and_shape(name):
    builder = BUILDERS[name]
    shapes = {
        builder.name(place): builder.layout(place, np.empty(leaf.shape, bool), True).shape
        for place, (_, leaf) in places(abstract(builder.create())).items()
    }
    assert shapes == {k: v for k, v in entry_shapes(name).items() if not k.endswith("num_batches_tracked")}


SMALL = dict(num_classes=4, fpn=8, box_features=8)
SMALL_TRUNK = dict(backbone="resnet18_fpn", depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), stem_width=8)


@pytest.fixture(scope="module", params=MODELS)
def small(request):
    builder = BUILDERS[request.param]
    changes = {} if "mobilenet" in request.param else dict(SMALL_TRUNK)
    changes |= {"box_convs": (8, 8)} if request.param.endswith("v2") else {}
    changes |= {"mask_convs": (8, 8)} if request.param.startswith("mask") else {}
    shapes = abstract(builder.create(**SMALL, **changes))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    return request.param, shapes, variables


def test_to_torch_and_back_is_exact(small):
    name, shapes, variables = small
    again = from_torch(BUILDERS[name], shapes, to_torch(BUILDERS[name], variables))
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_names_of_old_files_are_understood(small):
    """Convolutions of the pyramid and the RPN had no ".0", and those of the mask head were counted from 1."""
    name, shapes, variables = small
    if name.endswith("v2"):
        pytest.skip("the second version is newer than these names")
    old = {}
    for entry, value in to_torch(BUILDERS[name], variables).items():
        if "inner_blocks" in entry or "layer_blocks" in entry:
            entry = entry.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        entry = entry.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for i in range(2):
            entry = entry.replace(f"mask_head.{i}.0.", f"mask_head.mask_fcn{i + 1}.")
        old[entry] = value
    assert old.keys() != to_torch(BUILDERS[name], variables).keys()
    jax.tree.map(np.testing.assert_array_equal, from_torch(BUILDERS[name], shapes, old), variables)


# Numbers

parity = pytest.mark.parity
every_model = pytest.mark.parametrize("name", MODELS)
each_picture = pytest.mark.parametrize("index", [0, 1])


@parity
@every_model
@each_picture
def test_pyramid(name, index):
    outputs, _ = forwarded(name, index)
    for ours, theirs in (LIGHT_PYRAMID if "mobilenet" in name else PYRAMID).items():
        expected = golden(name)[f"feature.{theirs}.{index}"].transpose(0, 2, 3, 1)
        found = outputs[ours][:, ::2, ::2, ::16]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=ours)


def matches(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which boxes have nearly the same place; slivers thinner than a pixel have it if their corners have."""
    corners = np.abs(one[:, None] - other).max(-1)
    return (np.array(iou(one.astype(np.float32), other.astype(np.float32))) > 0.99) | (corners < 0.02)


@parity
@every_model
@each_picture
def test_proposals(name, index):
    """As a set and, but for a few that stand next to their place, in order."""
    outputs, _ = forwarded(name, index)
    expected = golden(name)[f"proposals.{index}"]
    same = matches(outputs["proposals"][0, : len(expected)], expected)
    assert outputs["proposals_valid"][0, : len(expected)].all()
    assert same.any(0).mean() >= 0.98 and same.any(1).mean() >= 0.98
    assert np.diagonal(same).mean() >= 0.9


@parity
@every_model
@each_picture
@pytest.mark.parametrize("few", [False, True], ids=["all", "few"])
def test_detections(name, index, few):
    """The few are those above a threshold: of equal sets of candidates NMS keeps the same best ones at any threshold."""
    _, found = forwarded(name, index)
    prefix = "few." if few else ""
    above = found["scores"] > (golden(name)[f"few.threshold.{index}"] if few else 0)
    boxes, classes, scores = (found[key][above] for key in ("boxes", "classes", "scores"))
    expected = {key: golden(name)[f"{prefix}{key}.{index}"] for key in ("boxes", "labels", "scores")}
    assert abs(len(boxes) - len(expected["boxes"])) <= few and (np.diff(scores) <= 0).all()
    same = matches(boxes, expected["boxes"])
    same &= classes[:, None] == expected["labels"]
    same &= np.abs(scores[:, None] - expected["scores"]) < 1e-3
    for found in (same.any(0), same.any(1)):  # one of them may lie on a threshold
        assert (~found).sum() <= max(few, 0.02 * len(found))


@parity
@each_picture
@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("mask")])
def test_pasted_masks(name, index):
    """Of the golden masks' detections, all but the pixels at which a mask is within rounding of a half."""
    _, found = forwarded(name, index)
    expected = golden(name)[f"masks.{index}"][:, 0]
    same = matches(golden(name)[f"boxes.{index}"][: len(expected)], found["boxes"])
    same &= golden(name)[f"labels.{index}"][: len(expected), None] == found["classes"]
    rows = same.argmax(1)[same.any(1)]
    assert len(rows) >= len(expected) - 1
    pasted = paste_masks(found["masks"][rows], found["boxes"][rows], *SIZES[index])
    assert (pasted > 0.5).any() and ((pasted > 0.5) != expected[same.any(1)]).mean() < 1e-3


@functools.cache
def learned(name: str) -> tuple[dict, dict, dict]:
    """(mean losses, gradients by torch's names, some outputs) of both pictures on one canvas, with everything sampled."""
    found, builder = golden(name), BUILDERS[name]
    norms = {key: "frozen" for key in ("norm", "fpn_norm", "head_norm") if builder.options.get(key) == "batch"}
    everything = dict(rpn_samples=10**7, samples=10**7, positive_fraction=0.5)
    everything |= {"max_positives": 64} if name.startswith("mask") else {}
    architecture = builder.create(**norms, **everything)
    canvas = found["batch_shape"][2:]
    sizes = [found[f"image_size.{i}"] for i in range(2)]
    boxes = [found[f"target.boxes.{i}"] * ratio(i, size) for i, size in enumerate(sizes)]
    batch = {
        "image": np.concatenate([on_canvas(i, size, canvas) for i, size in enumerate(sizes)]),
        "image_size": np.array(sizes, np.int32),
        "boxes": np.stack(boxes).astype(np.float32),
        "classes": np.stack([found[f"target.labels.{i}"] for i in range(2)]).astype(np.int32),
        "valid": np.ones((2, 4), bool),
    }
    if "target.masks.0" in found:  # drawn on the whole canvas
        masks = [resize(found[f"target.masks.{i}"][..., None], size, "nearest") for i, size in enumerate(sizes)]
        frame = np.array([0, 0, canvas[1], canvas[0]], np.float32)
        batch["masks"] = np.zeros((2, 4, *canvas), np.uint8)
        for mask, rows, (height, width) in zip(masks, batch["masks"], sizes):
            rows[:, :height, :width] = mask[..., 0]
        batch["mask_boxes"] = np.tile(frame, (2, 4, 1))

    @optimized_jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def gradient(params, variables):
        @jax.checkpoint
        def one(picture):  # after another: so many RoIs at once take many gigabytes
            rngs = {"sampler": jax.random.key(0)}
            outputs = architecture.model.apply({**variables, "params": params}, picture, train=True, rngs=rngs)
            kept = {key: outputs[key] for key in ("rois_valid", "mask_overflow") if key in outputs}
            return architecture.losses(outputs, picture), kept

        terms, kept = jax.lax.map(one, {key: value[:, None] for key, value in batch.items()})
        means = {key: total.sum() / count.sum() for key, (total, count) in terms.items()}
        return sum(means.values()), (means, kept)

    variables = loaded(name)
    (_, (means, outputs)), gradients = jax.device_get(gradient(variables["params"], variables))
    return means, to_torch(builder, {"params": gradients}), outputs


@pytest.mark.slow
@parity
@every_model
def test_losses(name):
    means, _, outputs = learned(name)
    assert len(means) == len([key for key in golden(name) if key.startswith("loss.")])
    least = 300 if "mobilenet" in name else 500  # whose pyramid begins at stride 32
    assert outputs["rois_valid"].sum() > least and not outputs.get("mask_overflow", np.zeros(2)).any()
    for ours, value in means.items():
        assert value == pytest.approx(float(golden(name)[f"loss.loss_{LOSSES[ours]}"]), rel=1e-4), ours


@pytest.mark.slow
@parity
@every_model
def test_gradients(name):
    _, gradients, _ = learned(name)
    norms = {key[9:]: value for key, value in golden(name).items() if key.startswith("gradnorm.")}
    assert norms.keys() == gradients.keys()
    slack = 1e-6 * max(norms.values())
    for key, norm in norms.items():
        assert abs(np.linalg.norm(gradients[key]) - norm) <= 1e-3 * norm + slack, key
        entries = gradients[key].ravel()
        entries = entries[:: max(1, entries.size // 16)][:16]
        np.testing.assert_allclose(entries, golden(name)[f"grad16.{key}"], rtol=1e-3, atol=slack, err_msg=key)
