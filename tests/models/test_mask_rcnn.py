import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import Network, check_predictions_are_blind, empty, example, shapes

from jaxvision import architecture as architectures
from jaxvision.models.detection.two_stage.roi_heads import BOX_WEIGHTS, detect, mask_losses, of_class, sample_rois
from jaxvision.ops.boxes import iou
from jaxvision.ops.masks import mask_targets


@pytest.fixture(scope="module")
def network():
    """Its score threshold is low, so that without training there is something to suppress."""
    return Network("mask_rcnn", score_threshold=0.1, nms_threshold=0.3)


@pytest.fixture(scope="module")
def forwarded(network):
    batch = network.batch([example(2), example(3)])
    return batch, *jax.device_get(network.forward(network.variables, batch))


def test_predictions_do_not_see_the_ground_truth(network):
    check_predictions_are_blind(network)


def test_proposals_and_detections_lie_in_the_image(network):
    batch = network.batch([example(2), example(3)])
    batch["image_size"] = np.array([[40, 64], [64, 24]], np.int32)
    outputs, _, predictions = network.forward(network.variables, batch)
    for (height, width), *rows in zip(
        batch["image_size"],
        outputs["proposals"],
        outputs["proposals_valid"],
        predictions["boxes"],
        predictions["valid"],
    ):
        for boxes, valid in (rows[:2], rows[2:]):
            boxes = np.array(boxes)[np.array(valid)]
            assert len(boxes) and boxes.min() >= 0
            assert (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_what_is_beyond_the_image_changes_nothing(network):
    batch = network.batch([example(2), example(3)])
    batch["image_size"] = np.array([[40, 64], [64, 24]], np.int32)
    _, _, clean = network.forward(network.variables, batch)
    image = batch["image"].copy()
    image[0, 40:], image[1, :, 24:] = 255, 99
    _, _, noisy = network.forward(network.variables, {**batch, "image": image})
    for name, value in clean.items():
        np.testing.assert_array_equal(noisy[name], value, err_msg=name)


def test_detections_are_above_the_threshold_best_first_and_apart(network, forwarded):
    predictions = forwarded[3]
    for boxes, classes, scores, valid in zip(*(predictions[n] for n in ("boxes", "classes", "scores", "valid"))):
        count = valid.sum()
        assert count > 1 and valid[:count].all()
        assert (scores[:count] > 0.1).all() and (np.diff(scores[:count]) <= 0).all()
        assert (classes[:count] >= 1).all() and (classes[:count] <= 3).all()
        assert (boxes[count:] == 0).all() and (scores[count:] == 0).all()
        overlap = np.array(iou(boxes[:count], boxes[:count])) * (classes[:count, None] == classes[:count])
        assert (overlap[~np.eye(count, dtype=bool)] <= 0.3).all()


# Sampling

sample_sixteen = jax.jit(functools.partial(sample_rois, samples=16, positive_fraction=0.25))


@pytest.fixture(scope="module")
def sampled():
    """RoIs from random proposals on three images: one with two objects, one with none, one with an object left aside."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 48, (3, 40, 2))
    proposals = np.concatenate([corners, corners + rng.uniform(4, 16, (3, 40, 2))], 2).astype(np.float32)
    boxes = np.array(
        [[[4, 4, 20, 30], [30, 20, 60, 50]], [[0] * 4] * 2, [[10, 10, 40, 40], [0, 0, 64, 64]]], np.float32
    )
    proposals[0, :6] = boxes[0, 0] + rng.uniform(-1, 1, (6, 4))
    batch = {
        "boxes": boxes,
        "valid": np.array([[True, True], [False, False], [True, False]]),
        "classes": np.array([[2, 3], [0, 0], [1, 2]], np.int32),
    }
    usable = rng.random((3, 40)) < 0.9
    usable[0, :6] = True
    keys = jax.random.split(jax.random.key(0), 3)
    return proposals, usable, batch, jax.device_get(sample_sixteen(proposals, usable, batch, keys))


def test_sampled_rois_begin_with_the_positives(sampled):
    proposals, usable, batch, found = sampled
    for i in range(3):
        rois, valid, classes = found["rois"][i], found["rois_valid"][i], found["roi_classes"][i]
        positive = valid & (classes > 0)
        count = positive.sum()
        assert positive[:count].all() and count <= 4 and valid[: valid.sum()].all()
        truth, known = batch["boxes"][i], batch["valid"][i]
        overlap = np.array(iou(rois, truth)) * known
        assert (overlap[positive].max(1) >= 0.5).all()
        np.testing.assert_array_equal(overlap[positive].argmax(1), found["roi_matches"][i][positive])
        np.testing.assert_array_equal(batch["classes"][i][found["roi_matches"][i][positive]], classes[positive])
        assert (overlap[valid & ~positive] < 0.5).all() and (classes[~positive] == 0).all()
        candidates = np.concatenate([proposals[i][usable[i]], truth[known]])
        assert all((roi == candidates).all(1).any() for roi in rois[valid])
    assert (found["roi_classes"][1] == 0).all() and found["rois_valid"][1].all()
    assert (found["roi_classes"][0] > 0).sum() == 4 and (found["roi_classes"][2] > 0).sum() == 1


def test_sampled_rois_include_the_ground_truth(sampled):
    found = sampled[3]
    np.testing.assert_array_equal(found["rois"][2, 0], [10, 10, 40, 40])  # no proposal is near it
    no_proposals = np.zeros((3, 40), bool)
    only = sample_sixteen(sampled[0], no_proposals, sampled[2], jax.random.split(jax.random.key(1), 3))
    np.testing.assert_array_equal(only["rois_valid"].sum(1), [2, 0, 1])


def test_proposals_have_no_gradient(network):
    batch = network.batch(network.pictures)

    @jax.jit
    @jax.grad
    def gradient(params):
        outputs = network.architecture.model.apply({**network.variables, "params": params}, batch, train=False)
        losses = network.architecture.losses(outputs, batch)
        return sum(losses[name][0] for name in ("roi_class", "roi_box", "mask"))

    found = gradient(network.variables["params"])
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(found["rpn"]))
    for part in ("trunk", "fpn", "box_head", "mask_head"):
        assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(found[part])), part


# The final detections against slow loops


def overlap(a, b):
    width, height = (min(a[2 + i], b[2 + i]) - max(a[i], b[i]) for i in range(2))
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def slow_detect(rois, usable, logits, deltas, size, score_threshold, nms_threshold):
    """torchvision's postprocess_detections of one image, in numpy loops: (what is kept, how many are above the score)."""
    rows = []
    exponent = np.exp(logits - logits.max(1, keepdims=True))
    scores = exponent / exponent.sum(1, keepdims=True)
    for i in np.flatnonzero(usable):
        for label in range(1, logits.shape[1]):
            x1, y1, x2, y2 = rois[i].astype(np.float64)
            dx, dy, dw, dh = deltas[i, label if deltas.shape[1] > 1 else 0] / np.array(BOX_WEIGHTS)
            width, height = x2 - x1, y2 - y1
            cx, cy = x1 + width / 2 + dx * width, y1 + height / 2 + dy * height
            w, h = width * np.exp(min(dw, np.log(62.5))), height * np.exp(min(dh, np.log(62.5)))
            box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            box = [min(max(value, 0), limit) for value, limit in zip(box, (size[1], size[0]) * 2)]
            if scores[i, label] > score_threshold and min(box[2] - box[0], box[3] - box[1]) >= 1e-2:
                rows.append((scores[i, label], label, np.array(box)))
    rows.sort(key=lambda row: -row[0])
    kept = []
    for score, label, box in rows:
        overlaps = [overlap(box, other) for _, k, other in kept if k == label]
        if max(overlaps, default=0) <= nms_threshold:
            kept.append((score, label, box))
    return kept, len(rows)


@pytest.fixture(scope="module", params=[1, 4], ids=["class_agnostic", "per_class"])
def heads(request):
    rng = np.random.default_rng(request.param)
    corners = rng.uniform(0, 50, (2, 30, 2))
    proposals = np.concatenate([corners, corners + rng.uniform(4, 30, (2, 30, 2))], 2).astype(np.float32)
    usable = rng.random((2, 30)) < 0.8
    logits = rng.normal(0, 2, (2, 30, 4)).astype(np.float32)
    deltas = rng.normal(0, 1.5, (2, 30, request.param, 4)).astype(np.float32)
    return proposals, usable, logits, deltas, np.array([[60, 64], [40, 50]], np.int32)


detect_twenty = jax.jit(functools.partial(detect, detections=20), static_argnames="candidates")


@pytest.mark.parametrize(("score", "nms", "found_all"), [(0.05, 0.5, False), (0.6, 0.2, True)])
def test_detections_are_those_of_slow_loops(heads, score, nms, found_all):
    found = jax.device_get(detect_twenty(*heads, candidates=200, score_threshold=score, nms_threshold=nms))
    assert (found["overflow"] == 0).all()
    for i in range(2):
        expected, _ = slow_detect(*(array[i] for array in heads), score, nms)
        assert (len(expected) < 20) == found_all
        expected = expected[:20]
        assert found["valid"][i].sum() == len(expected) > 3
        np.testing.assert_allclose(found["scores"][i][: len(expected)], [s for s, _, _ in expected], rtol=1e-5)
        np.testing.assert_array_equal(found["classes"][i][: len(expected)], [label for _, label, _ in expected])
        np.testing.assert_allclose(found["boxes"][i][: len(expected)], [box for *_, box in expected], atol=1e-3)


def test_candidates_beyond_the_limit_are_counted(heads):
    found = detect_twenty(*heads, candidates=7, score_threshold=0.05, nms_threshold=0.5)
    for i in range(2):
        expected, above = slow_detect(*(array[i] for array in heads), 0.05, 0.5)
        assert above > 7 and found["overflow"][i] == above - 7
        assert 0 < found["valid"][i].sum() <= 7
        assert found["scores"][i][0] == pytest.approx(expected[0][0], rel=1e-5)


# Masks


def test_of_class_takes_each_rows_own():
    values = np.arange(2 * 3 * 4 * 2 * 2).reshape(2, 3, 4, 2, 2)
    classes = np.array([[1, 0, 3], [2, 2, 1]])
    taken = of_class(jnp.array(values), jnp.array(classes))
    for i in range(2):
        for r in range(3):
            np.testing.assert_array_equal(taken[i, r], values[i, r, classes[i, r]])
    np.testing.assert_array_equal(of_class(jnp.array(values[:, :, :1]), jnp.array(classes)), values[:, :, 0])


@pytest.mark.parametrize("rule", ["sigmoid", "softmax"])
def test_a_detections_mask_is_of_its_own_class(network, forwarded, rule):
    """With a bias of its own in every channel, and no weights, a mask says which channel it came from."""
    batch, *_ = forwarded
    if rule == "softmax":
        network = Network("mask_rcnn", score_threshold=0.1, nms_threshold=0.3, mask_rule=rule)
    bias = np.array([9.0, -2.0, 0.5, 3.0], np.float32)
    params = jax.tree.map(np.asarray, network.variables["params"])
    params["mask_head"]["logits"] = {"kernel": params["mask_head"]["logits"]["kernel"] * 0, "bias": bias}
    # Large weights, so that the classes of different boxes differ.
    params["box_head"]["logits"] = jax.tree.map(lambda leaf: leaf * 300, params["box_head"]["logits"])
    _, _, predictions = network.forward({**network.variables, "params": params}, batch)
    valid = np.array(predictions["valid"])
    classes = np.array(predictions["classes"])[valid]
    assert len(set(classes)) > 1
    odds = np.exp(bias)
    expected = (odds / (1 + odds) if rule == "sigmoid" else odds / odds.sum())[classes]
    np.testing.assert_allclose(np.array(predictions["masks"])[valid].mean((1, 2)), expected, rtol=1e-5)
    np.testing.assert_allclose(np.array(predictions["masks"])[valid].std((1, 2)), 0, atol=1e-6)


def test_mask_loss_reads_the_true_classs_channel_of_positives_alone():
    """Logits that are right in the true class's channel and wrong elsewhere have no loss; swapped, a large one."""
    masks = np.zeros((1, 2, 28, 28), np.uint8)
    masks[0, 0, :14], masks[0, 1, :, :14] = 1, 1
    boxes = np.array([[[0, 0, 28, 28], [30, 30, 58, 58]]], np.float32)
    batch = {"masks": masks, "mask_boxes": boxes}
    outputs = {
        "rois": boxes[:, [0, 1, 0]],
        "roi_matches": np.array([[0, 1, 0]]),
        "roi_classes": np.array([[2, 1, 0]]),
        "rois_valid": np.ones((1, 3), bool),
    }
    logits = np.full((1, 3, 8, 8, 3), 30.0, np.float32)
    logits[0, 0, :, :, 2] = np.where(np.arange(8)[:, None] < 4, 30, -30)
    logits[0, 1, :, :, 1] = np.where(np.arange(8)[None] < 4, 30, -30)

    @jax.jit
    def loss(logits, real):
        return mask_losses({**outputs, "mask_logits": logits}, batch, real)["mask"]

    real = np.array([True])
    total, count = loss(logits, real)
    assert count == 2 * 64 and total < 1e-3
    assert loss(logits[..., [0, 2, 1]], real)[0] == pytest.approx(2 * 32 * 30, rel=1e-3)
    total, count = loss(logits[:, :1], real)
    assert count == 64 and total < 1e-3  # the head saw the first RoI alone
    total, count = loss(logits, ~real)
    assert count == total == 0


@pytest.mark.parametrize("aligned", [True, False])
def test_mask_targets_are_aligned_as_the_pooled_features_are(aligned):
    """Without, they take torchvision's adaptive number of samples."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (1, 1, 40, 40)).astype(np.uint8)
    batch = {"masks": masks, "mask_boxes": np.array([[[0, 0, 40, 40]]], np.float32)}
    rois = np.array([[[3, 5, 37, 30]]], np.float32)
    outputs = {"rois": rois, "roi_matches": np.array([[0]]), "roi_classes": np.array([[1]])}
    outputs |= {"rois_valid": np.ones((1, 1), bool)}
    targets = mask_targets(*(jnp.array(x[0]) for x in (*batch.values(), rois, [[0]])), 8, 2 if aligned else -1, aligned)
    logits = rng.normal(size=(1, 1, 8, 8, 2)).astype(np.float32)
    probability = 1 / (1 + np.exp(-logits[0, 0, ..., 1]))
    expected = -(targets * np.log(probability) + (1 - targets) * np.log(1 - probability)).sum()
    architecture = architectures.create("mask_rcnn", num_classes=2, aligned=aligned)
    assert architecture.model.pooler.aligned is architecture.model.mask_pooler.aligned is aligned
    assert architecture.losses.keywords == {"aligned": aligned, "mask_rule": "sigmoid"}
    total, _ = mask_losses({**outputs, "mask_logits": logits}, batch, None, aligned)["mask"]
    assert total == pytest.approx(float(expected), rel=1e-4)


def test_classes_that_compete_for_the_cells_of_a_mask():
    """A target t of class k is t of that class and 1 - t of the background, in each cell of a positive."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (1, 2, 28, 28)).astype(np.uint8)
    boxes = np.array([[[0, 0, 28, 28], [30, 30, 58, 58]]], np.float32)
    rois = boxes[:, [0, 1, 0]] + rng.uniform(-2, 2, (1, 3, 4)).astype(np.float32)
    matches, classes = np.array([[0, 1, 0]]), np.array([[2, 1, 0]])
    outputs = {"rois": rois, "roi_matches": matches, "roi_classes": classes, "rois_valid": np.ones((1, 3), bool)}
    logits = rng.normal(size=(1, 3, 6, 6, 3)).astype(np.float32)
    batch = {"masks": masks, "mask_boxes": boxes}
    found, count = mask_losses({**outputs, "mask_logits": logits}, batch, None, rule="softmax")["mask"]
    targets = np.array(mask_targets(*map(jnp.array, (masks[0], boxes[0], rois[0], matches[0])), 6, 2, True))
    expected = 0.0
    for roi in (0, 1):
        for cell in np.ndindex(6, 6):
            shares = np.exp(logits[0, roi][cell])
            shares /= shares.sum()
            t = targets[roi][cell]
            expected -= t * np.log(shares[classes[0, roi]]) + (1 - t) * np.log(shares[0])
    assert count == 72 and found == pytest.approx(float(expected), rel=1e-4)
    with pytest.raises(ValueError, match="set class_agnostic=False"):
        architectures.create("mask_rcnn", num_classes=3, mask_rule="softmax", class_agnostic=True)


@pytest.mark.parametrize(("samples", "seen"), [({}, 128), ({"samples": 10**7}, 256), ({"max_positives": 300}, 300)])
def test_how_many_positives_the_mask_head_sees(samples, seen):
    assert architectures.create("mask_rcnn", num_classes=2, **samples).model.max_positives == seen


def test_class_agnostic_heads_have_one_output():
    params = shapes("mask_rcnn", num_classes=7, class_agnostic=True)["params"]
    assert params["box_head"]["logits"]["kernel"].shape[-1] == 7
    assert params["box_head"]["deltas"]["kernel"].shape[-1] == 4
    assert params["mask_head"]["logits"]["kernel"].shape[-1] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet50"}, "resnet50_fpn"),
        ({"backbone": "vgg16_fpn"}, "no trunk 'vgg16'"),
        ({"anchor_sizes": ((32,), (64, 80))}, "equally long tuples"),
        ({"anchor_sizes": ((32,),) * 6}, "p2 .. p6"),
        ({"mask_rule": "tanh"}, '"sigmoid" or "softmax"'),
    ],
)
def test_options_that_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.create("mask_rcnn", num_classes=3, **options)


def test_positives_that_the_mask_head_does_not_see_are_counted():
    network = Network("mask_rcnn", max_positives=1)
    batch = network.batch([example(2), empty(3)])
    outputs, losses, _ = network.forward(network.variables, batch)
    positives = (np.array(outputs["roi_classes"]) > 0).sum(1)
    assert positives[0] > 1 and positives[1] == 0
    assert outputs["mask_overflow"].tolist() == [positives[0] - 1, 0]
    side = outputs["mask_logits"].shape[2]
    assert outputs["mask_logits"].shape[1] == 1 and losses["mask"][1] == side**2
