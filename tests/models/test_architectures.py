"""What holds for every registered architecture."""

import functools

import jax
import numpy as np
import optax
import pytest
from small import CLASS_NAMES, PROPOSALS, SIDE, SMALL, Network, empty, example

from jaxvision import architecture as architectures
from jaxvision.ops.boxes import iou
from jaxvision.train.state import TrainState
from jaxvision.train.step import train_step

RATE = {
    "fast_rcnn": 3e-3,
    "faster_rcnn": 3e-3,
    "keypoint_rcnn": 3e-3,
    "mask_rcnn": 3e-3,
    "crf_rnn": 2e-2,
    "deconvnet": 2e-2,
    "deeplabv3plus": 2e-2,
    "dilated": 1e-2,
}
REST = {"fcos": 0.6}  # centerness aims at values between 0 and 1: their entropy cannot be learnt away
SIDES = {  # of c1..c5, where they are not halves
    "acol": (32, 16, 8, 8),
    "alexnet": (15, 7, 3, 3, 3),
    "cam": (32, 16, 8, 8),
    "crf_rnn": (64, 64, 64),
    "deeplabv3": (32, 16, 8, 8, 8),
    "deeplabv3plus": (32, 16, 8, 4, 4),
    "dilated": (62, 30, 14, 12, 8),
    "fast_rcnn": (32, 16, 16),
    "fcn_resnet": (32, 16, 8, 8, 8),
    "full_resolution": (64, 64, 64),
    "lraspp": (32, 16, 8, 4, 4),
    "nin": (64, 32, 16),
    "rcnn": (16, 8, 4, 2, 1),
    "sliding_window": (78, 72),
    "sppnet": (32, 16, 8),
    "sliding_window_detector": (8, 4, 2),
    "squeezenet": (31, 15, 7, 3, 3),
    "ssd": (32, 16, 8, 4, 4),
    "unet": (248, 120, 56, 24, 8),
    "zfnet": (30, 6, 3, 3, 3),
}
# Of the maps, for each image: the regions that are seen one by one, and those that are sampled.
ROWS = {"rcnn": PROPOSALS + 12, "sliding_window_detector": 441 + 32}
STEPS = {"crf_rnn": 12, "faster_rcnn": 120, "keypoint_rcnn": 120, "mask_rcnn": 120, "regression_detector": 120}


@pytest.fixture(scope="module", params=architectures.names())
def network(request):
    assert request.param in SMALL, f"tests/models/small.py has no options for {request.param}"
    network = Network(request.param)
    optimizer = optax.adam(RATE.get(request.param, 5e-3))
    step = functools.partial(train_step, architecture=network.architecture, optimizer=optimizer)
    network.step, network.state = jax.jit(step), TrainState.create(network.variables, optimizer)
    return network


@pytest.fixture(scope="module")
def learned(network):
    """(state after a few dozen steps on two pictures, losses by step)."""
    state, batch, losses = network.state, network.batch(network.pictures), []
    for _ in range(STEPS.get(network.architecture.name, 60)):
        state, metrics = network.step(state, batch)
        losses.append(metrics["loss"])
    return state, np.array(losses)


def test_variables_are_plain_dicts(network):
    def check(tree):
        if not isinstance(tree, jax.Array):
            assert type(tree) is dict
            for child in tree.values():
                check(child)

    check(network.variables)
    name = network.architecture.name
    normed = SMALL[name].get("norm", "none") == "batch" or name in ("crf_rnn", "deconvnet", "resnet")
    assert set(network.variables) == {"params"} | ({"batch_stats"} if normed else set())


def test_shapes(network):
    outputs, _, predictions = network.forward(network.variables, network.batch(network.pictures))
    sides = SIDES.get(network.architecture.name, [SIDE >> level for level in range(1, 6)])
    for level, side in enumerate(sides, 1):
        assert outputs[f"c{level}"].shape[:3] == (2 * ROWS.get(network.architecture.name, 1), side, side)
    if "rpn_logits" in outputs:
        for level in range(2, 7):
            assert outputs[f"p{level}"].shape == (2, SIDE >> level, SIDE >> level, 16)
        anchors = 3 * sum((SIDE >> level) ** 2 for level in range(2, 7))
        assert outputs["anchors"].shape == (anchors, 4)
        assert outputs["rpn_logits"].shape == (2, anchors) and outputs["rpn_deltas"].shape == (2, anchors, 4)
        assert outputs["proposals"].shape == (2, 24, 4) and outputs["proposals_valid"].shape == (2, 24)
        assert outputs["rois"].shape == (2, 24, 4) and outputs["roi_logits"].shape == (2, 24, 4)
        assert outputs["roi_deltas"].shape == (2, 24, 4, 4)
        shapes = {"boxes": (2, 5, 4), "classes": (2, 5), "scores": (2, 5), "valid": (2, 5)}
        if network.architecture.name == "mask_rcnn":
            assert outputs["mask_logits"].shape == (2, 12, 8, 8, 4)
            shapes["masks"] = (2, 5, 8, 8)
        if network.architecture.name == "keypoint_rcnn":
            assert outputs["keypoint_logits"].shape == (2, 12, 16, 16, 5)
            shapes |= {"keypoints": (2, 5, 5, 3), "keypoint_scores": (2, 5, 5)}
        assert {name: predictions[name].shape for name in shapes} == shapes
    elif "roi_deltas" in outputs:
        assert outputs["proposals"].shape == (2, 24, 4) and outputs["rois"].shape == (2, 24, 4)
        assert outputs["roi_logits"].shape == (2, 24, 4) and outputs["roi_deltas"].shape == (2, 24, 4, 4)
        shapes = {"boxes": (2, 5, 4), "classes": (2, 5), "scores": (2, 5), "valid": (2, 5), "overflow": (2,)}
        assert {name: value.shape for name, value in predictions.items()} == shapes
    elif "deltas" in outputs:
        name = network.architecture.name
        for level, side in zip(range(3, 8), (8, 4, 2, 1, 1) if name in ("fcos", "retinanet") else ()):
            assert outputs[f"p{level}"].shape == (2, side, side, 16)
        anchors = len(outputs["anchors"])
        assert anchors == {"fcos": 86, "retinanet": 6 * 86, "ssd": 368, "ssdlite": 92}[name]
        assert outputs["logits"].shape == (2, anchors, 4) and outputs["deltas"].shape == (2, anchors, 4)
        shapes = {"boxes": (2, 5, 4), "classes": (2, 5), "scores": (2, 5), "valid": (2, 5), "overflow": (2,)}
        assert {name: value.shape for name, value in predictions.items()} == shapes
    elif network.task == "detection":
        kinds = {"regression_detector": (5 * (4 + 4),), "sliding_window_detector": (441, 4), "yolo": (4, 4, 3)}
        assert outputs["logits"].shape == (2, *kinds[network.architecture.name])
        shapes = {"boxes": (2, 5, 4), "classes": (2, 5), "scores": (2, 5), "valid": (2, 5)}
        assert {name: predictions[name].shape for name in shapes} == shapes
    elif network.task == "region_detection":
        assert outputs["rois"].shape == (2, 12, 4) and outputs["roi_logits"].shape == (2, 12, 4)
        assert outputs["logits"].shape == (2, PROPOSALS, 4)
        shapes = {"boxes": (2, 5, 4), "classes": (2, 5), "scores": (2, 5), "valid": (2, 5), "overflow": (2,)}
        assert {name: value.shape for name, value in predictions.items()} == shapes
    elif network.task == "segmentation":
        assert outputs["logits"].shape == (2, SIDE, SIDE, len(CLASS_NAMES))
        assert predictions["semantic"].shape == (2, SIDE, SIDE) and predictions["semantic"].dtype == np.int32
    elif network.task == "pose":
        assert outputs["places"].shape == (2, 5, 2) and predictions["joints"].shape == (2, 5, 3)
    else:
        assert outputs["logits"].shape == (2, 3)
        np.testing.assert_allclose(predictions["probabilities"].sum(1), 1, rtol=1e-5)
        if network.task == "localization":
            assert predictions["class_boxes"].shape == (2, 3, 4)


def test_losses_are_finite_with_and_without_objects(network):
    for pictures in (network.pictures, [empty(0), empty(1)], [empty(0), example(1)]):
        _, losses, predictions = network.forward(network.variables, network.batch(pictures))
        for name, (total, count) in losses.items():
            assert total.shape == count.shape == () and total.dtype == count.dtype == np.float32
            assert np.isfinite(total) and count >= 0, name
            if pictures is network.pictures:
                assert total > 0 and count > 0, name
        for name, values in predictions.items():
            assert np.isfinite(values).all(), name


def test_rows_that_are_not_real_count_nowhere(network):
    _, losses, _ = network.forward(network.variables, network.batch(network.pictures[:1]))
    both = network.batch(network.pictures)
    _, with_filler, _ = network.forward(network.variables, {**both, "real": np.array([True, False])})
    _, with_second, _ = network.forward(network.variables, both)
    for name in losses:
        np.testing.assert_allclose(with_filler[name], losses[name], rtol=1e-4, err_msg=name)
        assert with_second[name][1] > losses[name][1], name


def test_one_compilation_for_batches_of_one_shape(network):
    before = network.forward._cache_size()
    for pictures in ([example(5), example(6)], [empty(5), empty(6)], network.pictures):
        network.forward(network.variables, network.batch(pictures))
    assert network.forward._cache_size() <= before + 1
    size = network.step._cache_size()
    for pictures in (network.pictures, [empty(5), empty(6)]):
        network.step(network.state, network.batch(pictures))
    assert network.step._cache_size() <= size + 1


def test_gradients_are_finite_without_any_object(network):
    state, metrics = network.step(network.state, network.batch([empty(0), empty(1)]))
    for name, value in metrics.items():
        assert np.isfinite(value), name
    for leaf in jax.tree.leaves(state):
        assert np.isfinite(leaf).all()
    if network.task == "segmentation":  # every pixel is ignored: nothing to learn
        assert metrics["loss"] == 0 and metrics["norm/gradient"] == 0


def test_learns_two_pictures_by_heart(network, learned):
    state, losses = learned
    assert np.isfinite(losses).all()
    assert losses[-5:].mean() - REST.get(network.architecture.name, 0) < losses[0] / 5
    batch = network.batch(network.pictures)
    _, terms, predictions = network.forward(state.variables(), batch)
    if network.task == "segmentation":
        assert np.mean(predictions["semantic"] == batch["semantic"]) > 0.9
    elif network.task in ("classification", "map_localization"):
        np.testing.assert_array_equal(predictions["probabilities"].argmax(1), batch["label"])
    elif network.task == "localization":  # the first object's class is the label
        np.testing.assert_array_equal(predictions["probabilities"].argmax(1), batch["label"])
        own = predictions["class_boxes"][np.arange(2), batch["label"]]
        assert (np.diag(iou(own, batch["boxes"][:, 0])) > 0.5).all()
    elif network.task == "pose":
        assert np.linalg.norm(predictions["joints"][..., :2] - batch["keypoints"][:, 0, :, :2], axis=-1).max() < 4
    else:
        for i in range(2):
            overlap = np.array(iou(batch["boxes"][i][batch["valid"][i]], predictions["boxes"][i]))
            overlap *= predictions["valid"][i] & (predictions["scores"][i] > 0.5)
            overlap *= batch["classes"][i][batch["valid"][i]][:, None] == predictions["classes"][i]
            assert (overlap.max(1) > 0.5).all(), overlap
    assert sum(total / max(count, 1) for total, count in terms.values()) < losses[0]


def test_predicts_the_same_alone_and_in_any_batch(network, learned):
    variables = learned[0].variables()
    first, second = network.pictures
    _, _, alone = network.forward(variables, network.batch([first]))
    _, _, together = network.forward(variables, network.batch([first, second]))
    _, _, turned = network.forward(variables, network.batch([example(7), first]))
    if "valid" in alone:
        assert alone["valid"].any()
    for name, value in alone.items():
        for other in (together[name][0], turned[name][1]):
            if value.dtype.kind == "f":
                np.testing.assert_allclose(other, value[0], atol=1e-3, err_msg=name)
            else:
                np.testing.assert_array_equal(other, value[0], err_msg=name)


def test_named_maps_can_be_perturbed_and_explained(network):
    batch = network.batch(network.pictures)
    model = network.architecture.model
    maps = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), batch)["perturbations"]
    names = {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(maps)}
    levels = [f"c{level}" for level, _ in enumerate(SIDES.get(network.architecture.name, range(5)), 1)]
    room = {"crf_rnn": ("base",), "full_resolution": ()}.get(network.architecture.name, ("trunk",))
    assert {"/".join((*room, level)) for level in levels} <= names
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), maps)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def explain(perturbations, variables):
        outputs = model.apply({**variables, "perturbations": perturbations}, batch, train=False)
        name = next(name for name in ("rpn_logits", "roi_logits", "logits", "joints") if name in outputs)
        return (outputs[name] ** 2).sum(), outputs[levels[-2]]

    # FCN's scores begin at zero, where nothing has a gradient.
    variables = {**network.variables, "params": jax.tree.map(lambda leaf: leaf + 0.01, network.variables["params"])}
    (value, kept), gradient = explain(zeros, variables)
    for name in levels[-3:]:
        assert np.abs((gradient[room[0]] if room else gradient)[name]).max() > 0, name
    inner = zeros[room[0]] if room else zeros
    inner = {**inner, levels[-2]: inner[levels[-2]] + 1.0}
    (other, moved), _ = explain({**zeros, room[0]: inner} if room else inner, variables)
    np.testing.assert_allclose(moved, kept + 1, rtol=1e-5)
    assert other != value
