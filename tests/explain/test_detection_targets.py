"""Of every rule of detection: the logit that goes with a detection is its own, before softmax or sigmoid."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.explain.targets import DetectionScore, JointScore
from jaxvision.models.detection import regression_detector, ssd, yolo
from jaxvision.models.detection.single_shot.detect import detect as dense_detect
from jaxvision.models.detection.two_stage.roi_heads import best_detections
from jaxvision.models.detection.two_stage.roi_heads import detect as roi_detect
from jaxvision.ops.boxes import decode

RNG = np.random.default_rng(0)
ROWS, CLASSES = 12, 4
CORNERS = RNG.uniform(0, 40, (2, ROWS, 2))
BOXES = np.concatenate([CORNERS, CORNERS + RNG.uniform(6, 20, (2, ROWS, 2))], -1).astype(np.float32)
DELTAS = RNG.normal(0, 0.2, (2, ROWS, 4)).astype(np.float32)
LOGITS = RNG.normal(0, 2, (2, ROWS, CLASSES)).astype(np.float32)
SIZES = np.array([[60, 64], [50, 64]], np.int32)
RULE = dict(score_threshold=0.15, nms_threshold=0.5, candidates=30, detections=8)


def softmax(logits):
    exponent = np.exp(logits - logits.max(-1, keepdims=True))
    return exponent / exponent.sum(-1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def dense(logits):
    scores = jax.nn.sigmoid(logits)
    levels = [slice(0, 7), slice(7, ROWS)]
    anchors, scores, deltas, logits = (
        [array[:, level] for level in levels] for array in (BOXES[:1], scores, DELTAS, logits)
    )
    rule = dict(first_class=1, decode=decode, logits=logits, **RULE)
    return dense_detect([jnp.array(level[0]) for level in anchors], scores, deltas, SIZES, **rule)


def single_shot(logits):
    return ssd.detect(BOXES[0], logits, DELTAS, SIZES, **RULE)


def of_regions(logits):
    return roi_detect(BOXES, np.ones((2, ROWS), bool), logits, jnp.zeros((2, ROWS, 1, 4)), SIZES, **RULE)


def fitted(logits):
    boxes = np.repeat(BOXES[:, :, None], CLASSES - 1, 2)
    find = jax.vmap(functools.partial(best_detections, **RULE))
    scores = jax.nn.softmax(logits)[..., 1:]
    return find(boxes, scores, logits[..., 1:], np.ones((2, ROWS), bool), SIZES)


def slots(logits):
    numbers = jnp.concatenate([logits, BOXES / 64], -1).reshape(2, -1)
    batch = {"image": np.zeros((2, 64, 64, 3)), "image_size": SIZES}
    return regression_detector.predict({"logits": numbers}, batch, slots=ROWS, score_threshold=0.15)


RULES = {"dense": (dense, sigmoid), "ssd": (single_shot, softmax), "two stages": (of_regions, softmax)}
RULES |= {"regions": (fitted, softmax), "regression": (slots, softmax)}


@pytest.mark.parametrize("name", RULES)
def test_a_detections_logit_is_its_own(name):
    rule, scores_of = RULES[name]
    found, scores, seen = jax.device_get(jax.jit(rule)(LOGITS)), scores_of(LOGITS.astype(np.float64)), 0
    for b, i in np.argwhere(found["valid"]):
        label = found["classes"][b, i]
        [row] = np.flatnonzero(np.abs(scores[b, :, label] - found["scores"][b, i]) < 1e-6)
        assert found["score_logits"][b, i] == LOGITS[b, row, label]
        seen += 1
    assert seen > 6

    def second(logits):
        return DetectionScore(1)(rule(logits)).sum()

    gradient = np.asarray(jax.grad(second)(LOGITS))  # of the one logit, not of the probability: 1 and nothing else
    assert sorted(gradient[gradient != 0].tolist()) == [1.0, 1.0] and (gradient.sum((1, 2)) == 1).all()


def test_of_yolo_it_is_the_class_of_the_cell():
    cells, boxes = 3, 2
    outputs = {
        "logits": RNG.uniform(0.1, 1, (1, cells, cells, 3)).astype(np.float32),
        "confidences": RNG.uniform(0.1, 1, (1, cells, cells, boxes)).astype(np.float32),
        "coordinates": RNG.uniform(0.2, 0.6, (1, cells, cells, boxes, 4)).astype(np.float32),
    }
    batch = {"image": np.zeros((1, 64, 64, 3)), "image_size": SIZES[:1]}
    found = jax.device_get(yolo.predict(outputs, batch, **RULE))
    scores = outputs["confidences"][..., None] * outputs["logits"][..., None, :]
    assert found["valid"].sum() > 3
    for i in np.flatnonzero(found["valid"][0]):
        label = found["classes"][0, i] - 1
        [(y, x, _)] = np.argwhere(np.abs(scores[0, ..., label] - found["scores"][0, i]) < 1e-7)
        assert found["score_logits"][0, i] == outputs["logits"][0, y, x, label]


def test_rows_without_a_detection_have_no_gradient():
    outputs = {"valid": np.array([[True, False]]), "score_logits": jnp.array([[2.0, 5.0]])}
    assert DetectionScore(0)(outputs).tolist() == [2] and DetectionScore(1)(outputs).tolist() == [0]
    with pytest.raises(ValueError, match="Detection 2 does not exist: there are 2"):
        DetectionScore(2).check(outputs)


def test_a_joint_is_the_top_of_its_heat_map_or_a_coordinate():
    heatmaps = RNG.normal(size=(2, 3, 4, 4, 5)).astype(np.float32)
    outputs = {"valid": np.array([[True, True, True], [True, True, False]]), "keypoint_heatmaps": heatmaps}
    found = JointScore(3, detection=2)
    found.check(outputs)
    np.testing.assert_array_equal(found(outputs), [heatmaps[0, 2, :, :, 3].max(), 0])
    posed = {"joints": RNG.normal(size=(2, 5, 3)).astype(np.float32)}
    for axis, column in (("x", 0), ("y", 1)):
        JointScore(4, axis=axis).check(posed)
        np.testing.assert_array_equal(JointScore(4, axis=axis)(posed), posed["joints"][:, 4, column])
    for target, shapes, text in (
        (JointScore(5), outputs, "Joint 5 does not exist: there are 5"),
        (JointScore(0, detection=3), outputs, "Detection 3 does not exist: there are 3"),
        (JointScore(5, axis="x"), posed, "Joint 5 does not exist"),
        (JointScore(0), posed, 'axis="x" or "y", where it predicts `joints`; this one has `joints` and no'),
    ):
        with pytest.raises(ValueError, match=text):
            target.check(shapes)
