import functools

import jax
import numpy as np
import pytest
from small import Network, check_predictions_are_blind, shapes

from jaxvision import architecture as architectures
from jaxvision.models.detection.fcos import centerness, decode, distances, losses, match_centres
from jaxvision.ops.anchors import pyramid_anchors
from jaxvision.ops.boxes import paired_giou

CELLS = (8, 16, 32)
RANGE = (2.0, 4.0)
ANCHORS = np.concatenate(pyramid_anchors([(c,) for c in CELLS], (1.0,), [(8, 8), (4, 4), (2, 2)], CELLS))


def test_predictions_do_not_see_the_ground_truth():
    network = Network("fcos", score_threshold=0.02)
    check_predictions_are_blind(network)
    outputs = jax.eval_shape(network.architecture.model.apply, network.variables, network.batch(network.pictures))
    assert outputs["centerness"].shape == (*outputs["logits"].shape[:2], 1)


def test_parameters_are_torchvisions():
    """32.3 million. Torchvision counts no frozen norms, whose scales and biases are parameters here."""
    leaves = jax.tree.leaves(shapes("fcos", num_classes=91)["params"])
    assert sum(leaf.size for leaf in leaves) - 53_120 == 32_269_600


# Distances


def test_decode_is_the_inverse_of_distances():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 40, (20, 2))
    anchors = np.concatenate([corners, corners + [[8, 16]]], 1).astype(np.float32)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    boxes = np.concatenate([centres - rng.uniform(1, 30, (20, 2)), centres + rng.uniform(1, 30, (20, 2))], 1)
    boxes = boxes.astype(np.float32)
    np.testing.assert_allclose(decode(np.array(distances(boxes, anchors)) / [8, 16, 8, 16], anchors), boxes, atol=1e-4)


def test_negative_distances_are_zero():
    np.testing.assert_array_equal(decode(np.array([-1.0, 1, 2, -3]), np.array([0.0, 0, 8, 8])), [4, -4, 20, 4])


def test_centerness():
    anchors = np.array([[-4, -4, 4, 4], [4, 4, 12, 12], [4, -4, 12, 4], [56, 56, 64, 64]], np.float32)
    box = np.array([-10, -10, 10, 10], np.float32)
    inside = np.array([True, True, True, False])
    found = centerness(np.tile(box, (4, 1)), anchors, inside)
    np.testing.assert_allclose(found, [1, 2 / 18, np.sqrt(2 / 18), 1], rtol=1e-6)


# Matching against slow loops


def slow_match(boxes, anchors, radius, scale_range):
    sides = anchors[:, 2] - anchors[:, 0]
    matches = []
    for anchor, side in zip(anchors, sides):
        x, y = (anchor[:2] + anchor[2:]) / 2
        low = 0 if side == sides.min() else scale_range[0] * side
        high = np.inf if side == sides.max() else scale_range[1] * side
        eligible = []
        for row, (x1, y1, x2, y2) in enumerate(boxes):
            edges = [x - x1, y - y1, x2 - x, y2 - y]
            near = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < radius * side
            if near and min(edges) > 0 and low < max(edges) < high:
                eligible.append(((x2 - x1) * (y2 - y1), row))
        matches.append(min(eligible)[1] if eligible else -1)
    return np.array(matches)


match = jax.jit(match_centres, static_argnums=(3, 4))


@pytest.mark.parametrize("seed", range(5))
def test_matches_are_those_of_slow_loops(seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 50, (6, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(4, 60, (6, 2))], 1).astype(np.float32)
    if seed == 4:
        boxes = boxes.round()  # edges on centres: neither inside nor near is "or equal"
    valid = np.array([True] * 5 + [False])
    found = match(boxes, valid, ANCHORS, 1.5, RANGE)
    np.testing.assert_array_equal(found, slow_match(boxes[:5], ANCHORS, 1.5, RANGE))
    assert len(set(np.array(found))) > 3
    assert (np.array(match(boxes, np.zeros(6, bool), ANCHORS, 1.5, RANGE)) == -1).all()


def test_of_boxes_at_one_place_the_smallest_wins():
    boxes = np.array([[0, 0, 40, 40], [8, 8, 32, 32], [8, 8, 32, 32]], np.float32)
    found = np.array(match(boxes, np.ones(3, bool), ANCHORS, 1.5, (2.0, 10.0)))
    assert (found == 1).any() and not (found == 2).any()
    assert not (found[:64] == 0).any()  # at the finest level its centre belongs to the smaller boxes


# Losses against slow loops


@pytest.fixture(scope="module")
def guesses():
    rng = np.random.default_rng(0)
    boxes = np.zeros((3, 2, 4), np.float32)
    boxes[0] = [[2, 3, 30, 25], [20, 20, 60, 62]]
    boxes[1, 0] = [10, 5, 21, 40]
    batch = {
        "boxes": boxes,
        "classes": np.array([[1, 3], [2, 0], [0, 0]], np.int32),
        "valid": np.array([[True, True], [True, False], [False, False]]),
    }
    count = len(ANCHORS)
    outputs = {
        "anchors": ANCHORS,
        "logits": rng.normal(-1, 1, (3, count, 4)).astype(np.float32),
        "deltas": rng.normal(1, 1, (3, count, 4)).astype(np.float32),
        "centerness": rng.normal(0, 1, (3, count, 1)).astype(np.float32),
    }
    return outputs, batch


def slow_losses(outputs, batch, i, alpha, gamma):
    """Of one image: sums of focal, GIoU and centerness losses, and its positive anchors."""
    boxes = batch["boxes"][i][batch["valid"][i]]
    matches = slow_match(boxes, ANCHORS, 1.5, RANGE)
    focal = box = centre = 0.0
    for a, m in enumerate(matches):
        for k, logit in enumerate(outputs["logits"][i, a]):
            p = 1 / (1 + np.exp(-logit))
            target = m >= 0 and batch["classes"][i, m] == k
            focal -= alpha * (1 - p) ** gamma * np.log(p) if target else (1 - alpha) * p**gamma * np.log(1 - p)
        if m >= 0:
            box += 1 - float(paired_giou(decode(outputs["deltas"][i, a], ANCHORS[a]), boxes[m]))
            left, top, right, bottom = np.array(distances(boxes[m], ANCHORS[a]))
            target = np.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
            p = 1 / (1 + np.exp(-outputs["centerness"][i, a, 0]))
            centre -= target * np.log(p) + (1 - target) * np.log(1 - p)
    return np.array([focal, box, centre]), (matches >= 0).sum()


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 1.0)])
def test_losses_are_those_of_slow_loops(guesses, alpha, gamma):
    outputs, batch = guesses
    compiled = jax.jit(functools.partial(losses, scale_range=RANGE, alpha=alpha, gamma=gamma))
    rows, counts = zip(*(slow_losses(outputs, batch, i, alpha, gamma) for i in range(3)))
    assert counts[0] > 5 and counts[1] > 0 and counts[2] == 0
    for real in ([True, True, True], [False, True, True]):
        found = compiled(outputs, {**batch, "real": np.array(real)})
        for k, name in enumerate(("class", "box", "centerness")):
            total, count = found[name]
            assert count == sum(np.array(counts)[real]), name
            assert total == pytest.approx(sum(row[k] for row, use in zip(rows, real) if use), rel=1e-4), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet50"}, "resnet50_fpn"),
        ({"cells": (8, 16)}, "5 equally long tuples"),
        ({"cells": (8, 16, 16, 32, 64)}, "must grow from level to level"),
    ],
)
def test_options_that_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.create("fcos", num_classes=3, **options)
