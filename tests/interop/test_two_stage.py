"""Faster and Mask R-CNN against torchvision's own outputs."""

import functools

import jax
import numpy as np
import pytest
from torch_golden import (
    SIZES,
    both,
    check_detections,
    check_gradients,
    check_losses,
    check_names,
    check_pyramid,
    detections,
    expected,
    golden,
    gradients_in_float64,
    load,
    near,
    optimized_jit,
    single,
)

from jaxvision.interop.convert import abstract, from_torch, to_torch
from jaxvision.interop.two_stage import BUILDERS
from jaxvision.ops.masks import paste_masks
from jaxvision.ops.resize import resize

MODELS = list(BUILDERS)
TRAINED = [name for name in BUILDERS if "320" not in name]  # which in training is the other on MobileNetV3
PYRAMID = {"p2": "0", "p3": "1", "p4": "2", "p5": "3", "p6": "pool"}
LIGHT_PYRAMID = {"p5": "0", "p6": "1", "p7": "pool"}
LOSSES = {
    "rpn_objectness": "loss_objectness",
    "rpn_box": "loss_rpn_box_reg",
    "roi_class": "loss_classifier",
    "roi_box": "loss_box_reg",
    "mask": "loss_mask",
    "keypoint": "loss_keypoint",
}

loaded = functools.cache(lambda name: load(BUILDERS[name], name))


@functools.cache
def forwarded(name: str, index: int) -> tuple[dict, dict]:
    """(outputs, detections in pixels of the original) of one picture on its own canvas."""
    architecture, batch = BUILDERS[name].create(), single(name, index)

    @optimized_jit
    def forward(variables):
        outputs = architecture.model.apply(variables, batch)
        return outputs, architecture.predict(outputs, batch)

    outputs, predictions = jax.device_get(forward(loaded(name)))
    return outputs, detections(name, index, predictions)


# Names


@pytest.mark.parametrize("name", MODELS)
def test_every_entry_has_torchvisions_name_and_shape(name):
    check_names(BUILDERS[name], name)


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
    check_pyramid(name, index, forwarded(name, index)[0], LIGHT_PYRAMID if "mobilenet" in name else PYRAMID)


@parity
@every_model
@each_picture
def test_proposals(name, index):
    """As a set and, but for a few that stand next to their place, in order."""
    outputs, _ = forwarded(name, index)
    wanted = golden(name)[f"proposals.{index}"]
    pairs = near(outputs["proposals"][0, : len(wanted)], wanted)
    assert outputs["proposals_valid"][0, : len(wanted)].all()
    assert pairs.any(0).mean() >= 0.98 and pairs.any(1).mean() >= 0.98
    assert np.diagonal(pairs).mean() >= 0.9


@parity
@every_model
@each_picture
@pytest.mark.parametrize("few", [False, True], ids=["all", "few"])
def test_detections(name, index, few):
    """The few are those above a threshold: of equal sets of candidates NMS keeps the same best ones at any threshold."""
    _, found = forwarded(name, index)
    above = found["scores"] > (golden(name)[f"few.threshold.{index}"] if few else 0)
    check_detections({key: value[above] for key, value in found.items()}, expected(name, index, few), few)


@parity
@each_picture
@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("mask")])
def test_pasted_masks(name, index):
    """Of the golden masks' detections, all but the pixels at which a mask is within rounding of a half."""
    _, found = forwarded(name, index)
    wanted = golden(name)[f"masks.{index}"][:, 0]
    pairs = near(golden(name)[f"boxes.{index}"][: len(wanted)], found["boxes"])
    pairs &= golden(name)[f"labels.{index}"][: len(wanted), None] == found["classes"]
    rows = pairs.argmax(1)[pairs.any(1)]
    assert len(rows) >= len(wanted) - 1
    pasted = paste_masks(found["masks"][rows], found["boxes"][rows], *SIZES[index])
    assert (pasted > 0.5).any() and ((pasted > 0.5) != wanted[pairs.any(1)]).mean() < 1e-3


@functools.cache
def learned(name: str) -> tuple[dict, dict, dict]:
    """(mean losses, gradients by torch's names, some outputs) of both pictures on one canvas, with everything sampled."""
    found, builder, batch = golden(name), BUILDERS[name], both(name)
    norms = {key: "frozen" for key in ("norm", "fpn_norm", "head_norm") if builder.options.get(key) == "batch"}
    everything = dict(rpn_samples=10**7, samples=10**7, positive_fraction=0.5)
    everything |= {"max_positives": 64} if name.startswith("mask") else {}
    architecture = builder.create(**norms, **everything)
    if "target.masks.0" in found:  # drawn on the whole canvas
        canvas, sizes = batch["image"].shape[1:3], batch["image_size"].tolist()
        masks = [resize(found[f"target.masks.{i}"][..., None], tuple(size), "nearest") for i, size in enumerate(sizes)]
        batch["masks"] = np.zeros((2, 4, *canvas), np.uint8)
        for mask, rows, (height, width) in zip(masks, batch["masks"], sizes):
            rows[:, :height, :width] = mask[..., 0]
        batch["mask_boxes"] = np.tile(np.array([0, 0, canvas[1], canvas[0]], np.float32), (2, 4, 1))

    def losses(params, variables, picture):
        rngs = {"sampler": jax.random.key(0)}
        outputs = architecture.model.apply({**variables, "params": params}, picture, train=True, rngs=rngs)
        kept = {key: outputs[key] for key in ("rois_valid", "mask_overflow") if key in outputs}
        return architecture.losses(outputs, picture), kept

    # One picture after the other, as so many RoIs at once take many gigabytes; and not by lax.map, in whose loop XLA has
    # only a slow way of computing a convolution's gradient on a CPU.
    variables = loaded(name)
    pictures = [{key: value[i : i + 1] for key, value in batch.items()} for i in range(2)]
    forward = optimized_jit(losses)
    terms, kept = zip(*(jax.device_get(forward(variables["params"], variables, picture)) for picture in pictures))
    sums, counts = ({key: sum(term[key][i] for term in terms) for key in terms[0]} for i in range(2))

    @optimized_jit
    @jax.grad
    def gradient(params, variables, picture):
        return sum(total / counts[key] for key, (total, _) in losses(params, variables, picture)[0].items())

    gradients = [jax.device_get(gradient(variables["params"], variables, picture)) for picture in pictures]
    outputs = jax.tree.map(lambda *rows: np.concatenate(rows), *kept)
    means = {key: sums[key] / counts[key] for key in sums}
    return means, to_torch(builder, {"params": jax.tree.map(np.add, *gradients)}), outputs


@pytest.mark.slow
@parity
@pytest.mark.parametrize("name", TRAINED)
def test_losses(name):
    means, _, outputs = learned(name)
    least = 300 if "mobilenet" in name else 500  # whose pyramid begins at stride 32
    assert outputs["rois_valid"].sum() > least and not outputs.get("mask_overflow", np.zeros(2)).any()
    check_losses(name, means, LOSSES)


@pytest.mark.slow
@parity
@pytest.mark.parametrize("name", TRAINED)
def test_gradients(name, tmp_path):
    double = "mobilenet" in name
    check_gradients(name, gradients_in_float64("test_two_stage", name, tmp_path) if double else learned(name)[1])
