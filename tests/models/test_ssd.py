import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import Network, check_predictions_are_blind, create, empty, example, shapes

from jaxvision import architecture as architectures
from jaxvision.models.detection.ssd import BOX_WEIGHTS, _unit, detect, ssd_losses
from jaxvision.ops.boxes import decode, encode, iou
from jaxvision.ops.default_boxes import default_boxes


@pytest.fixture(scope="module")
def network():
    return Network("ssd", score_threshold=0.05)


def test_predictions_do_not_see_the_ground_truth(network):
    check_predictions_are_blind(network)


def test_the_fourth_block_begins_with_cells_of_length_twenty(network):
    outputs, _, _ = network.forward(network.variables, network.batch(network.pictures))
    np.testing.assert_allclose(np.linalg.norm(outputs["conv4"], axis=-1), 20, rtol=1e-5)


def test_training_needs_no_detections(network):
    batch = network.batch(network.pictures)
    outputs = jax.eval_shape(functools.partial(network.architecture.model.apply, train=True), network.variables, batch)
    assert {"anchors", "logits", "deltas"} <= set(outputs) and "boxes" not in outputs


# Against slow loops

losses_of = jax.jit(ssd_losses, static_argnames=("negative_ratio", "min_negatives"))


def slow_detect(anchors, logits, deltas, size, score_threshold, nms_threshold, candidates, detections):
    """torchvision's SSD.postprocess_detections of one image, in numpy loops: (what is kept, what was no candidate)."""
    exponent = np.exp(logits - logits.max(1, keepdims=True))
    scores = exponent / exponent.sum(1, keepdims=True)
    boxes = np.clip(decode(deltas, anchors, BOX_WEIGHTS), 0, [size[1], size[0]] * 2)
    kept, left_out = [], 0
    for label in range(1, logits.shape[1]):
        rows = [i for i in np.argsort(-scores[:, label], kind="stable") if scores[i, label] > score_threshold]
        left_out += max(0, len(rows) - candidates)
        own = []
        for i in rows[:candidates]:
            if all(iou(boxes[i : i + 1], other[2][None])[0, 0] <= nms_threshold for other in own):
                own.append((scores[i, label], label, boxes[i]))
        kept += own
    return sorted(kept, key=lambda row: -row[0])[:detections], left_out


@pytest.mark.parametrize("candidates", [6, 30])
def test_detections_are_those_of_a_slow_loop(candidates):
    rng = np.random.default_rng(candidates)
    corners = rng.uniform(0, 40, (30, 2))
    anchors = np.concatenate([corners, corners + rng.uniform(8, 30, (30, 2))], 1).astype(np.float32)
    logits, deltas = rng.normal(0, 2, (2, 30, 4)).astype(np.float32), rng.normal(0, 1, (2, 30, 4)).astype(np.float32)
    sizes = np.array([[60, 64], [40, 50]], np.int32)
    options = dict(score_threshold=0.1, nms_threshold=0.3, candidates=candidates, detections=12)
    found = jax.device_get(jax.jit(functools.partial(detect, **options))(anchors, logits, deltas, sizes))
    for i in range(2):
        kept, left_out = slow_detect(anchors, logits[i], deltas[i], sizes[i], **options)
        count = found["valid"][i].sum()
        assert 3 < count == len(kept) and found["valid"][i][:count].all() and found["overflow"][i] == left_out
        np.testing.assert_allclose(found["scores"][i][:count], [row[0] for row in kept], rtol=1e-5)
        np.testing.assert_array_equal(found["classes"][i][:count], [row[1] for row in kept])
        np.testing.assert_allclose(found["boxes"][i][:count], [row[2] for row in kept], atol=1e-4)
        assert (found["boxes"][i][count:] == 0).all() and (found["scores"][i][count:] == 0).all()


ANCHORS = np.array([[0, 0, 20, 20], [10, 10, 30, 30], [30, 30, 60, 60], [0, 40, 10, 50], [50, 0, 60, 10]], np.float32)


def batch_of_one(boxes, classes, valid):
    return {"boxes": np.array([boxes], np.float32), "classes": np.array([classes]), "valid": np.array([valid])}


def test_losses_of_an_image_computed_by_hand():
    """One object has two anchors above 0.5 and another only its best; of the three negatives the hardest are taken."""
    rng = np.random.default_rng(0)
    logits, deltas = rng.normal(size=(1, 5, 3)).astype(np.float32), rng.normal(size=(1, 5, 4)).astype(np.float32)
    anchors = np.concatenate([ANCHORS[:1], ANCHORS[:1] + 2, ANCHORS[2:]])
    batch = batch_of_one([[1, 1, 21, 21], [55, 55, 64, 64], [0, 0, 64, 64]], [2, 1, 1], [True, True, False])
    outputs = {"anchors": anchors, "logits": logits, "deltas": deltas}
    found = losses_of(outputs, batch, negative_ratio=1 / 3)
    labels, rows = np.array([2, 2, 1, 0, 0]), np.array([0, 0, 1])
    errors = -np.array(jax.nn.log_softmax(logits[0]))[np.arange(5), labels]
    np.testing.assert_allclose(found["class"][0], errors[:3].sum() + errors[3:].max(), rtol=1e-5)
    error = abs(deltas[0, :3] - encode(batch["boxes"][0, rows], anchors[:3], BOX_WEIGHTS))
    np.testing.assert_allclose(found["box"][0], np.where(error < 1, error**2 / 2, error - 0.5).sum(), rtol=1e-5)
    assert found["class"][1] == found["box"][1] == 3


def test_an_image_without_objects_teaches_what_it_is_asked_to():
    logits, deltas = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32), np.zeros((1, 5, 4), np.float32)
    outputs = {"anchors": ANCHORS, "logits": logits, "deltas": deltas}
    batch = batch_of_one([[0, 0, 0, 0]], [0], [False])
    losses = losses_of(outputs, batch)
    assert all(float(value) == 0 for pair in losses.values() for value in pair)
    errors = np.sort(-np.array(jax.nn.log_softmax(logits[0]))[:, 0])
    np.testing.assert_allclose(losses_of(outputs, batch, min_negatives=2)["class"][0], errors[-2:].sum(), rtol=1e-6)
    filler = {**batch, "real": np.array([False])}
    assert losses_of(outputs, filler, min_negatives=2)["class"][0] == 0


def test_unit_length_and_its_gradient():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]])
    np.testing.assert_allclose(_unit(x)[:2], [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: _unit(x).sum())(x)).all()


# As published


def test_ssd300_is_torchvisions():
    canvas = (300, 300)
    params = shapes("ssd", canvas, num_classes=91)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 35_641_826
    architecture = architectures.create("ssd", num_classes=91)
    batch = {"image": np.zeros((1, *canvas, 3), np.uint8), "image_size": np.array([canvas], np.int32)}
    outputs = jax.eval_shape(architecture.model.apply, {"params": params}, batch)
    sides = {"conv4": 38, "conv7": 19, "extra1": 10, "extra2": 5, "extra3": 3, "extra4": 1}
    assert {name: outputs[name].shape[1:3] for name in sides} == {name: (side, side) for name, side in sides.items()}
    assert outputs["logits"].shape == (1, 8732, 91) and outputs["boxes"].shape == (1, 200, 4)


VGG16 = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512)] + [(512, 512)] * 5


def parameters(extras, channels, cells, classes):
    """VGG-16's convolutions, fc6, fc7 and the scale of conv4; (kernel, inputs, outputs) of the extras; a convolution a map."""
    trunk = sum((9 * i + 1) * o for i, o in VGG16) + (9 * 512 + 1) * 1024 + (1024 + 1) * 1024 + 512
    heads = sum((9 * i + 1) * n * (classes + 4) for i, n in zip(channels, cells))
    return trunk + sum((k * k * i + 1) * o for k, i, o in extras) + heads


EXTRAS300 = [(1, 1024, 256), (3, 256, 512), (1, 512, 128), (3, 128, 256), *[(1, 256, 128), (3, 128, 256)] * 2]
EXTRAS512 = [*EXTRAS300, (1, 256, 128), (4, 128, 256)]
PUBLISHED = {  # extras, channels and boxes a cell of the maps, sides of the maps, boxes in all
    "ssd300": (EXTRAS300, (512, 1024, 512, 256, 256, 256), (4, 6, 6, 6, 4, 4), (38, 19, 10, 5, 3, 1), 8732),
    "ssd512": (EXTRAS512, (512, 1024, 512, *(256,) * 4), (4, 6, 6, 6, 6, 4, 4), (64, 32, 16, 8, 4, 2, 1), 24564),
}


@pytest.mark.parametrize(("form", "count"), [("ssd300", 26_285_486), ("ssd512", 27_188_676)])
def test_the_authors_networks_on_voc(form, count):
    extras, channels, cells, sides, boxes = PUBLISHED[form]
    assert parameters(EXTRAS300, *PUBLISHED["ssd300"][1:3], 91) == 35_641_826  # torchvision's
    canvas = (int(form[3:]),) * 2
    options = dict(num_classes=21, form=form, scales="voc", matching="bipartite", clip_boxes=False)
    params = shapes("ssd", canvas, **options)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters(extras, channels, cells, 21) == count
    assert params["trunk"]["conv4_scale"].shape == (512,)
    architecture = architectures.create("ssd", **options)
    batch = {"image": np.zeros((1, *canvas, 3), np.uint8), "image_size": np.array([canvas], np.int32)}
    outputs = jax.eval_shape(architecture.model.apply, {"params": params}, batch)
    names = ("conv4", "conv7", *(f"extra{i}" for i in range(1, len(sides) - 1)))
    assert tuple(outputs[name].shape[1:] for name in names) == tuple(zip(sides, sides, channels))
    assert outputs["logits"].shape == (1, boxes, 21) and outputs["boxes"].shape == (1, 200, 4)


@pytest.mark.parametrize(
    ("form", "table", "sizes"),
    [
        ("ssd300", "voc", (30, 60, 111, 162, 213, 264, 315)),
        ("ssd300", "coco", (21, 45, 99, 153, 207, 261, 315)),
        ("ssd512", "voc", (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6)),
        ("ssd512", "coco", (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72)),
    ],
)
def test_default_boxes_have_the_authors_sizes(form, table, sizes):
    """Squares of the least and of the mean size, and boxes of the least one's area, at the centres of the maps' cells."""
    canvas = int(form[3:])
    model = architectures.create("ssd", num_classes=21, form=form, scales=table, clip_boxes=False).model
    _, _, cells, sides, count = PUBLISHED[form]
    shapes = [(side, side) for side in sides]
    boxes = default_boxes(shapes, (canvas, canvas), model.scales, model.ratios, model.steps, clip=False)
    assert len(boxes) == count
    start = 0
    for level, (side, cell) in enumerate(zip(sides, cells)):
        own = boxes[start : start + side * side * cell].reshape(side, side, cell, 4)
        start += side * side * cell
        extent = own[..., 2:] - own[..., :2]
        least, most = sizes[level : level + 2]
        wanted = [(least, least), (np.sqrt(least * most),) * 2]
        for ratio in (2, 3)[: (cell - 2) // 2]:
            long, short = least * np.sqrt(ratio), least / np.sqrt(ratio)
            wanted += [(long, short), (short, long)]
        np.testing.assert_allclose(extent, np.broadcast_to(wanted, extent.shape), atol=1e-3)
        step = (8, 16, 32, 64, 100, 300)[level] if canvas == 300 else 512 / side
        centre = (own[..., :2] + own[..., 2:]) / 2
        np.testing.assert_allclose(
            centre[:, 0, :, 1], np.tile((np.arange(side)[:, None] + 0.5) * step, cell), atol=1e-3
        )
        np.testing.assert_allclose(
            centre[0, :, :, 0], np.tile((np.arange(side)[:, None] + 0.5) * step, cell), atol=1e-3
        )


def test_bipartite_matching_leaves_no_object_without_a_box():
    """Two small objects overlap one anchor best; by torchvision's rule the first is lost."""
    anchors = np.array([[0, 0, 40, 40], [4, 4, 44, 44], [50, 50, 90, 90]], np.float32)
    outputs = {"anchors": anchors, "logits": np.zeros((1, 3, 3), np.float32), "deltas": np.zeros((1, 3, 4), np.float32)}
    batch = batch_of_one([[6, 6, 16, 16], [18, 18, 30, 30]], [1, 2], [True, True])
    counts = [
        float(jax.jit(functools.partial(ssd_losses, matching=rule))(outputs, batch)["box"][1])
        for rule in ("torchvision", "bipartite")
    ]
    assert counts == [1, 2]


def test_options_that_do_not_fit_each_other_are_named():
    with pytest.raises(ValueError, match=r"detects on 3 maps.* got 2 ratios, no steps and 4 scales"):
        create("ssd", ratios=((2,), (2,)))
    with pytest.raises(ValueError, match="got 3 ratios, 1 steps and 4 scales"):
        create("ssd", steps=(8,))
    for option, value, known in (
        ("form", "ssd321", "ssd300, ssd512"),
        ("scales", "imagenet", "coco, voc"),
        ("matching", "greedy", "torchvision, bipartite"),
        ("steps", "canvas", "published"),
    ):
        with pytest.raises(ValueError, match=f"SSD: {option} '{value}' is not one of {known}"):
            create("ssd", **{option: value})


def test_fewer_blocks_and_norms_are_possible():
    network = Network("ssd", depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), norm="batch")
    outputs, losses, _ = network.forward(network.variables, network.batch([example(1), empty(0)]))
    assert outputs["conv3"].shape[1:3] == (16, 16) and outputs["conv7"].shape[1:3] == (8, 8)
    assert "batch_stats" in network.variables and all(np.isfinite(total) for total, _ in losses.values())
