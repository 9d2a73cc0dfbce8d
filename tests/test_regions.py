"""Scores of windows joined on the image, and ensembles, with a network whose scores are its pixels."""

import numpy as np
import pytest
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.data.proposals import build
from jaxvision.models.segmentation.objective import segmentation_losses, segmentation_predict
from jaxvision.predictor import Predictor
from jaxvision.regions import Ensemble, RegionPredictor


class Pixels(nn.Module):
    """A pixel's scores are its colours, less a half."""

    sign: float = 1.0

    def __call__(self, batch, train=False):
        image = batch["image"].astype(np.float32) / (255 if batch["image"].dtype == np.uint8 else 1)
        return {"logits": self.sign * (image - 0.5) * 8}


def network(sign=1.0):
    return Architecture("pixels", Pixels(sign), segmentation_losses, segmentation_predict, "segmentation")


RNG = np.random.default_rng(0)
IMAGE = RNG.random((20, 30, 3)).astype(np.float32)
BOXES = np.array([[0, 0, 16, 16], [10, 4, 26, 20], [3.2, 1.5, 9.1, 6.7]])
SCORES = (IMAGE - 0.5) * 8


def softmax(x):
    x = np.exp(x.astype(np.float64))
    return x / x.sum(-1, keepdims=True)


@pytest.mark.parametrize("join", ["max", "mean"])
def test_scores_lie_where_their_windows_do_and_are_joined(join):
    """Windows of the canvas's size are not resized, so what is joined is known exactly."""
    predictor = RegionPredictor(network(), {}, lambda image: BOXES[:2], canvas=(16, 16), join=join, batch_size=4)
    [found] = predictor.probabilities([IMAGE])
    laid = np.zeros((2, 20, 30, 3))
    laid[0, :16, :16], laid[1, 4:20, 10:26] = SCORES[:16, :16], SCORES[4:20, 10:26]
    wanted = softmax(laid.max(0) if join == "max" else laid.mean(0))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(found[:4, 26:], 1 / 3, atol=1e-7)  # which no window holds
    [result] = predictor([IMAGE])
    np.testing.assert_array_equal(result["semantic"], found.argmax(-1))


def test_windows_are_whole_pixels_and_come_back_at_their_own_size():
    predictor = RegionPredictor(network(), {}, lambda image: BOXES[2:], canvas=(12, 14))
    np.testing.assert_array_equal(predictor.windows(IMAGE), [[3, 1, 10, 7]])
    flat = np.zeros((20, 30, 3), np.uint8)
    flat[1:7, 3:10] = (255, 0, 0)
    [found] = predictor.probabilities([flat])
    np.testing.assert_allclose(found[1:7, 3:10], np.broadcast_to(softmax(np.array([4, -4, -4])), (6, 7, 3)), atol=1e-4)


def test_the_best_boxes_that_are_large_enough_or_else_the_whole_image():
    boxes = np.array([[0, 0, 4, 20], [2, 2, 12, 12], [-5, -5, 40, 40], [0, 0, 9, 9]])
    predictor = RegionPredictor(network(), {}, lambda image: boxes, count=2, least=8)
    np.testing.assert_array_equal(predictor.windows(IMAGE), [[2, 2, 12, 12], [0, 0, 30, 20]])
    for nothing in (np.zeros((0, 4)), boxes[:1]):
        alone = RegionPredictor(network(), {}, lambda image, boxes=nothing: boxes, canvas=(20, 30), least=8)
        np.testing.assert_array_equal(alone.windows(IMAGE), [[0, 0, 30, 20]])
        np.testing.assert_allclose(next(alone.probabilities([IMAGE])), softmax(SCORES), atol=1e-6)


def test_windows_by_a_methods_settings():
    settings = dict(method="sliding_boxes", sides=(0.5,), count=4)
    windows = RegionPredictor(network(), {}, settings).windows(IMAGE)
    boxes = build(settings)(IMAGE)
    assert len(boxes) == 4
    np.testing.assert_array_equal(windows, np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1))
    with pytest.raises(ValueError, match="no method 'selective'"):
        RegionPredictor(network(), {}, dict(method="selective"))


def test_an_ensemble_is_the_mean_of_probabilities():
    whole, mirror = Predictor(network(), {}), Predictor(network(-0.3), {})
    [found] = Ensemble(whole, mirror).probabilities([IMAGE])
    wanted = (softmax(SCORES) + softmax(-0.3 * SCORES)) / 2
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_array_equal(Ensemble(whole, mirror)([IMAGE])[0]["semantic"], wanted.argmax(-1))
    np.testing.assert_array_equal(Ensemble(whole)([IMAGE])[0]["semantic"], whole([IMAGE])[0]["semantic"])


def test_what_cannot_be_meant_is_an_error():
    for options, match in (({"join": "sum"}, 'join \'sum\' is not "max" or "mean"'), ({"count": 0}, "at least 1")):
        with pytest.raises(ValueError, match=match):
            RegionPredictor(network(), {}, lambda image: BOXES, **options)
    for boxes in (np.zeros((3, 5)), np.full((1, 4), np.nan)):
        predictor = RegionPredictor(network(), {}, lambda image, boxes=boxes: boxes)
        with pytest.raises(ValueError, match=r"no boxes \(N,4\)"):
            predictor([IMAGE])
    with pytest.raises(ValueError, match="at least one predictor"):
        Ensemble()
    detector = Architecture("d", Pixels(), segmentation_losses, segmentation_predict, "detection")
    with pytest.raises(ValueError, match="which is for segmenters"):
        RegionPredictor(detector, {}, lambda image: BOXES)
    with pytest.raises(ValueError, match="Segmenters give probabilities"):
        Predictor(detector, {}).probabilities([IMAGE])
