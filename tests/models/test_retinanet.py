"""RetinaNet, and what it shares with FCOS: the pyramid's upper levels, and how detections are found."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import Network, check_predictions_are_blind, example, shapes

from jaxvision import architecture as architectures
from jaxvision.layers.fpn import FPN
from jaxvision.models.detection.retinanet import ANCHOR_SIZES, losses
from jaxvision.models.detection.single_shot.detect import detect
from jaxvision.ops.boxes import decode, iou


@pytest.fixture(scope="module")
def network():
    """Its score threshold is low, so that without training there is something to suppress."""
    return Network("retinanet", score_threshold=0.005, nms_threshold=0.3)


@pytest.fixture(scope="module")
def forwarded(network):
    batch = network.batch([example(2), example(3)])
    return batch, *jax.device_get(network.forward(network.variables, batch))


def test_predictions_do_not_see_the_ground_truth(network):
    check_predictions_are_blind(network)


def test_detections_lie_in_the_image_and_what_is_beyond_changes_nothing(network):
    batch = network.batch([example(2), example(3)])
    batch["image_size"] = np.array([[40, 64], [64, 24]], np.int32)
    _, _, clean = network.forward(network.variables, batch)
    for (height, width), boxes, valid in zip(batch["image_size"], clean["boxes"], clean["valid"]):
        boxes = np.array(boxes)[np.array(valid)]
        assert len(boxes) and boxes.min() >= 0
        assert (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
    image = batch["image"].copy()
    image[0, 40:], image[1, :, 24:] = 255, 99
    _, _, noisy = network.forward(network.variables, {**batch, "image": image})
    for name, value in clean.items():
        np.testing.assert_array_equal(noisy[name], value, err_msg=name)


def test_everything_begins_as_background(network, forwarded):
    scores = jax.nn.sigmoid(forwarded[1]["logits"])
    assert scores.min() > 0.003 and scores.max() < 0.03


# The pyramid


@pytest.mark.parametrize("extra", ["none", "pool", "p5", "c5"])
def test_upper_levels_of_the_pyramid(extra):
    maps = {f"c{level}": jnp.ones((1, 64 >> level, 96 >> level, 4 * level)) for level in (3, 4, 5)}
    layer = FPN(("c3", "c4", "c5"), 6, extra=extra)
    pyramid, variables = jax.jit(layer.init_with_output)(jax.random.key(0), maps)
    sides = {name: level.shape[1:3] for name, level in pyramid.items()}
    expected = {"p3": (8, 12), "p4": (4, 6), "p5": (2, 3), "p6": (1, 2), "p7": (1, 1)}
    count = {"none": 3, "pool": 4}.get(extra, 5)
    assert sides == dict(list(expected.items())[:count])
    assert all(level.shape[-1] == 6 for level in pyramid.values())
    params = variables["params"]
    if extra == "pool":
        np.testing.assert_array_equal(pyramid["p6"], pyramid["p5"][:, ::2, ::2])
    if count < 5:
        assert not any("extra" in name for name in params)
        return
    assert params["extra_p6"]["kernel"].shape == (3, 3, 20 if extra == "c5" else 6, 6)
    assert params["extra_p7"]["kernel"].shape == (3, 3, 6, 6)
    below = jax.nn.relu(pyramid["p6"][0])  # two cells, under the centre and the right of p7's kernel
    cell = jnp.einsum("yxi,yxio->o", below, params["extra_p7"]["kernel"][1:2, 1:]) + params["extra_p7"]["bias"]
    np.testing.assert_allclose(pyramid["p7"][0, 0, 0], cell, rtol=1e-4, atol=1e-5)


# Sizes


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_parameters_are_torchvisions():
    """34.0 and 38.2 million. Torchvision counts no frozen norms, whose scales and biases are parameters here."""
    version_1 = shapes("retinanet", num_classes=91)["params"]
    assert size(version_1) - 53_120 == 34_014_999
    options = dict(norm="batch", extra="c5", head_norm="group", box_loss="giou")
    assert size(shapes("retinanet", num_classes=91, **options)["params"]) == 38_198_935


def test_anchor_sizes_are_cut_to_whole_pixels():
    assert ANCHOR_SIZES == ((32, 40, 50), (64, 80, 101), (128, 161, 203), (256, 322, 406), (512, 645, 812))


# Losses against slow loops


def slow_losses(outputs, batch, box_loss, alpha, gamma):
    """Of one image: (focal loss, box loss), each over the number of positive anchors."""
    anchors, logits, deltas = outputs["anchors"], outputs["logits"], outputs["deltas"]
    boxes, classes = (batch[name][batch["valid"]] for name in ("boxes", "classes"))
    overlaps = np.array(iou(boxes, anchors)) if len(boxes) else np.zeros((1, len(anchors))) - 1
    matches = {}
    for a in range(len(anchors)):
        best = overlaps[:, a].max()
        forced = len(boxes) and (overlaps[:, a] == overlaps.max(1)).any()
        if best >= 0.5 or forced:
            matches[a] = overlaps[:, a].argmax()
        elif best >= 0.4:
            matches[a] = None  # between
    focal = box = 0.0
    for a in range(len(anchors)):
        match = matches.get(a, -1)
        if match is None:
            continue
        for k, logit in enumerate(logits[a]):
            target = match >= 0 and classes[match] == k
            p = 1 / (1 + np.exp(-logit))
            focal -= alpha * (1 - p) ** gamma * np.log(p) if target else (1 - alpha) * p**gamma * np.log(1 - p)
        if match >= 0:
            if box_loss == "l1":
                (x, y), (w, h) = ((anchors[a][:2] + anchors[a][2:]) / 2, anchors[a][2:] - anchors[a][:2])
                (gx, gy), (gw, gh) = (
                    (boxes[match][:2] + boxes[match][2:]) / 2,
                    boxes[match][2:] - boxes[match][:2],
                )
                target = np.array([(gx - x) / w, (gy - y) / h, np.log(gw / w), np.log(gh / h)])
                box += np.abs(deltas[a] - target).sum()
            else:
                one, other = np.array(decode(deltas[a], anchors[a])), boxes[match]
                hull = np.append(np.minimum(one[:2], other[:2]), np.maximum(one[2:], other[2:]))
                hull, first, second = (np.prod(b[2:] - b[:2]) for b in (hull, one, other))
                both = np.prod(np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0))
                union = first + second - both
                box += 1 - (both / union - (hull - union) / hull)
    count = max(1, sum(match is not None for match in matches.values()))
    return focal / count, box / count


@pytest.fixture(scope="module")
def guesses():
    """Anchors that fit, nearly fit and do not fit; three images: two objects, one object, none."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (60, 2))
    anchors = np.concatenate([corners, corners + rng.uniform(8, 24, (60, 2))], 1).astype(np.float32)
    boxes = np.zeros((3, 2, 4), np.float32)
    boxes[0], boxes[1, 0] = anchors[:2] + 1, anchors[2] + [2, 0, 5, 4]
    batch = {
        "boxes": boxes,
        "classes": np.array([[1, 3], [2, 0], [0, 0]], np.int32),
        "valid": np.array([[True, True], [True, False], [False, False]]),
    }
    logits = rng.normal(-1, 1, (3, 60, 4)).astype(np.float32)
    deltas = rng.normal(0, 0.3, (3, 60, 4)).astype(np.float32)
    return {"anchors": anchors, "logits": logits, "deltas": deltas}, batch


@pytest.mark.parametrize(("box_loss", "alpha", "gamma"), [("l1", 0.25, 2.0), ("giou", 0.25, 2.0), ("l1", 0.5, 1.0)])
def test_losses_are_those_of_slow_loops(guesses, box_loss, alpha, gamma):
    outputs, batch = guesses
    compiled = jax.jit(functools.partial(losses, box_loss=box_loss, alpha=alpha, gamma=gamma))
    found = compiled(outputs, batch)
    rows = [
        slow_losses(
            {name: value if name == "anchors" else value[i] for name, value in outputs.items()},
            {name: value[i] for name, value in batch.items()},
            box_loss,
            alpha,
            gamma,
        )
        for i in range(3)
    ]
    for k, name in enumerate(("class", "box")):
        total, count = found[name]
        assert count == 3 and total == pytest.approx(sum(row[k] for row in rows), rel=1e-4), name
    assert rows[0][1] > 0 and rows[2][1] == 0
    part = compiled(outputs, {**batch, "real": np.array([False, True, True])})
    for k, name in enumerate(("class", "box")):
        assert part[name][1] == 2 and part[name][0] == pytest.approx(rows[1][k] + rows[2][k], rel=1e-4), name


# Detections against slow loops


def slow_detect(anchors, scores, deltas, size, first, threshold, nms_threshold, candidates):
    """torchvision's postprocess_detections of one image, in loops: (what is kept, how many fell out of a level)."""
    rows, left_out = [], 0
    for level, level_scores, level_deltas in zip(anchors, scores, deltas):
        boxes = np.clip(np.array(decode(level_deltas, level)), 0, [size[1], size[0]] * 2)
        pairs = [
            (s, k, boxes[a])
            for a, line in enumerate(level_scores)
            for k, s in enumerate(line)
            if s > threshold and k >= first
        ]
        pairs.sort(key=lambda row: -row[0])
        left_out += len(pairs[candidates:])
        rows += pairs[:candidates]
    rows.sort(key=lambda row: -row[0])
    boxes = np.array([box for *_, box in rows])
    overlaps, kept = np.array(iou(boxes, boxes)), []
    for i, (_, k, _) in enumerate(rows):
        if not any(rows[j][1] == k and overlaps[i, j] > nms_threshold for j in kept):
            kept.append(i)
    return [rows[i] for i in kept], left_out


@pytest.mark.parametrize(("first", "candidates"), [(0, 1000), (1, 12)])
def test_detections_are_those_of_slow_loops(first, candidates):
    rng = np.random.default_rng(first)
    anchors, scores, deltas = [], [], []
    for count in (20, 6, 1):
        corners = rng.uniform(0, 40, (count, 2))
        anchors.append(np.concatenate([corners, corners + rng.uniform(6, 40, (count, 2))], 1).astype(np.float32))
        scores.append(rng.uniform(0, 1, (2, count, 3)).astype(np.float32))
        deltas.append(rng.normal(0, 0.5, (2, count, 4)).astype(np.float32))
    image_size = np.array([[60, 64], [40, 50]], np.int32)
    options = dict(first_class=first, score_threshold=0.3, nms_threshold=0.4, candidates=candidates)
    found = jax.jit(functools.partial(detect, decode=decode, detections=90, **options))(
        anchors, scores, deltas, image_size
    )
    for i in range(2):
        expected, left_out = slow_detect(
            anchors, [s[i] for s in scores], [d[i] for d in deltas], image_size[i], first, 0.3, 0.4, candidates
        )
        count = found["valid"][i].sum()
        assert count == len(expected) > 5 and found["overflow"][i] == left_out
        assert (left_out > 0) == (candidates == 12)
        np.testing.assert_allclose(found["scores"][i][:count], [score for score, *_ in expected], rtol=1e-6)
        np.testing.assert_array_equal(found["classes"][i][:count], [k for _, k, _ in expected])
        np.testing.assert_allclose(found["boxes"][i][:count], [box for *_, box in expected], atol=1e-3)
        assert (found["scores"][i][count:] == 0).all() and (found["boxes"][i][count:] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet50"}, "resnet50_fpn"),
        ({"anchor_sizes": ((32,), (64,))}, "5 equally long tuples"),
        ({"anchor_sizes": ((32,), (64,), (128, 180), (256,), (512,))}, "equally long"),
        ({"extra": "c4"}, "extra 'c4' is not one of none, pool, c5, p5"),
        ({"box_loss": "ciou"}, "box_loss 'ciou' is not one of l1, giou"),
    ],
)
def test_options_that_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.create("retinanet", num_classes=3, **options)
