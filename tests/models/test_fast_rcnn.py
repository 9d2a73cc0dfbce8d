import functools

import jax
import numpy as np
import pytest
from small import SIDE, Network, example, proposals, shapes
from test_ohem import overlap
from test_parameter_counts import VGG16, size

from jaxvision import architecture as architectures
from jaxvision.models.detection.two_stage.roi_heads import sample_rois
from jaxvision.models.detection.two_stage.svd import truncate


@pytest.fixture(scope="module")
def network():
    """Its score threshold is low, so that without training there is something to suppress."""
    return Network("fast_rcnn", score_threshold=0.1, norm="none")


def test_predictions_see_the_proposals_and_not_the_ground_truth(network):
    batch = network.batch([example(2), example(3)])
    other = network.batch([example(5), example(6)])
    _, _, predictions = network.forward(network.variables, batch)
    truth = {name: other[name] for name in ("boxes", "classes", "valid")}
    _, _, same = network.forward(network.variables, {**batch, **truth})
    assert predictions["valid"].any() and set(predictions) == {"boxes", "classes", "scores", "valid", "overflow"}
    for name, value in predictions.items():
        np.testing.assert_array_equal(same[name], value, err_msg=name)
    _, _, moved = network.forward(network.variables, {**batch, "proposals": other["proposals"]})
    assert not np.allclose(moved["boxes"], predictions["boxes"])


def test_rows_that_hold_no_proposal_count_nowhere(network):
    batch = network.batch([example(2), example(3)])
    batch["proposals_valid"] = np.arange(24) < np.array([[10], [0]])
    outputs, losses, predictions = network.forward(network.variables, batch)
    other = {**batch, "proposals": np.where(batch["proposals_valid"][..., None], batch["proposals"], 17)}
    _, same_losses, same = network.forward(network.variables, other)
    for name, value in predictions.items():
        np.testing.assert_array_equal(same[name], value, err_msg=name)
    for name, value in losses.items():
        np.testing.assert_allclose(same_losses[name], value, rtol=1e-6, err_msg=name)
    assert predictions["valid"][0].any() and not predictions["valid"][1].any()
    known = {tuple(box.tolist()) for box in (*batch["proposals"][0, :10], *batch["boxes"][0])}
    rois, valid = np.array(outputs["rois"]), np.array(outputs["rois_valid"])
    assert valid[0].any() and {tuple(roi.tolist()) for roi in rois[0][valid[0]]} <= known
    assert valid.sum(1)[1] == 2  # the ground truth


def test_without_proposals_it_says_what_is_missing(network):
    batch = network.batch([example(2)])
    bare = {name: value for name, value in batch.items() if not name.startswith("proposals")}
    with pytest.raises(ValueError, match="the batch has none: set config"):
        jax.eval_shape(network.architecture.model.apply, network.variables, bare)


def test_background_overlaps_an_object_a_little():
    """Published: a quarter of 64 from an overlap of 0.5, the others from 0.1 to 0.5."""
    batch = {
        "boxes": np.stack([example(1)["boxes"], example(2)["boxes"]]),
        "classes": np.stack([example(1)["classes"], example(2)["classes"]]),
        "valid": np.array([[True, True], [False, False]]),
    }
    rng = np.random.default_rng(0)
    regions = np.stack([proposals(boxes, rng, SIDE, 90) for boxes in batch["boxes"]])
    sample = functools.partial(sample_rois, samples=64, positive_fraction=0.25, background=0.1)
    found = jax.device_get(jax.jit(sample)(regions, np.ones((2, 90), bool), batch, jax.random.split(jax.random.key(0))))
    best = [max(overlap(roi, box) for box in batch["boxes"][0]) for roi in found["rois"][0]]
    valid, positive = found["rois_valid"][0], found["roi_classes"][0] > 0
    every = [max(overlap(roi, box) for box in batch["boxes"][0]) for roi in regions[0]]
    assert positive.sum() == 16 and valid.sum() == 16 + sum(0.1 <= o < 0.5 for o in every)
    for o, ok, is_object in zip(best, valid, positive):
        assert not ok or (o >= 0.5 if is_object else 0.1 <= o < 0.5)
    assert any(o < 0.1 for o in every)
    assert not found["rois_valid"][1].any()  # no object, no background that is hard


# Truncated SVD


def with_ranks(network, ranks):
    return architectures.create("fast_rcnn", **{**network.architecture.options, "ranks": ranks})


@pytest.fixture(scope="module")
def two_layers(network):
    """Variables whose fc6 is nearly of rank 12, as trained layers are of a low one; and the logits of a batch."""
    kernel = np.array(network.variables["params"]["box_head"]["fc6"]["kernel"])
    u, s, v = np.linalg.svd(kernel, full_matrices=False)
    s[12:] *= 1e-3
    head = dict(network.variables["params"]["box_head"])
    head["fc6"] = {**head["fc6"], "kernel": (u * s) @ v}
    variables = {"params": {**network.variables["params"], "box_head": head}}
    batch = network.batch([example(2), example(3)])
    return variables, batch, network.forward(variables, batch)[0]["roi_logits"]


@pytest.mark.parametrize(("ranks", "error"), [((48, 48), 1e-5), ((12, None), 1e-2), ((4, 4), None)])
def test_layers_cut_in_two_say_nearly_the_same(network, two_layers, ranks, error):
    variables, batch, logits = two_layers
    whole = size(variables)
    architecture = with_ranks(network, ranks)
    cut = {"params": truncate(variables["params"], ranks)}
    wanted = jax.eval_shape(architecture.init, jax.random.key(0), batch)
    assert jax.tree.map(np.shape, cut) == jax.tree.map(np.shape, wanted)
    found = jax.jit(architecture.model.apply)(cut, batch)["roi_logits"]
    difference = abs(found - logits).max() / abs(logits).max()
    if error is None:
        assert difference > 5e-2  # it does lose something in the end
    else:
        assert difference < error
    if ranks != (48, 48):
        assert size(cut) < whole
    assert "fc6" in variables["params"]["box_head"]  # what was given is as it was


def test_a_cut_is_the_nearest_matrix_of_its_rank():
    kernel = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    cut = truncate({"box_head": {"fc6": {"kernel": kernel, "bias": np.arange(6.0)}}}, (2,))["box_head"]
    assert cut.keys() == {"fc6_in", "fc6_out"} and cut["fc6_in"].keys() == {"kernel"}
    assert cut["fc6_in"]["kernel"].shape == (9, 2) and cut["fc6_out"]["kernel"].shape == (2, 6)
    np.testing.assert_array_equal(cut["fc6_out"]["bias"], np.arange(6.0))
    error = np.linalg.norm(kernel - cut["fc6_in"]["kernel"] @ cut["fc6_out"]["kernel"])
    assert error == pytest.approx(np.sqrt((np.linalg.svd(kernel)[1][2:] ** 2).sum()), rel=1e-4)


@pytest.mark.parametrize(("ranks", "message"), [((0,), "rank 0 of 'fc6'"), ((7,), r"1 \.\. 6"), ((1, 1), "'fc7'")])
def test_ranks_that_cannot_be_meant(ranks, message):
    with pytest.raises(ValueError, match=message):
        truncate({"box_head": {"fc6": {"kernel": np.ones((9, 6)), "bias": np.ones(6)}}}, ranks)


def test_sizes_are_the_papers():
    """VGG16's convolutions, fc6 and fc7, and sibling layers for VOC's 21 classes and their 84 coordinates; with ranks 1024
    and 256 each layer has rank (inputs + outputs) numbers."""
    convolutions = sum((9 * i + 1) * o for i, o in VGG16)
    outputs = 4097 * 21 + 4097 * 84
    params = shapes("fast_rcnn", canvas=(64, 64), num_classes=21)["params"]
    assert size(params) == convolutions + 25088 * 4096 + 4096 + 4097 * 4096 + outputs == 134_690_729
    cut = shapes("fast_rcnn", canvas=(64, 64), num_classes=21, ranks=(1024, 256))["params"]
    assert size(cut) == convolutions + 1024 * (25088 + 4096) + 256 * (4096 + 4096) + 2 * 4096 + outputs
