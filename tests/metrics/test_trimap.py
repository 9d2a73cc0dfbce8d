import math

import numpy as np
import pytest

from jaxvision.metrics.confusion import ConfusionMatrix
from jaxvision.metrics.trimap import TrimapIU, border_distance

RNG = np.random.default_rng(0)


def blocks(side=24):
    return np.kron(RNG.integers(0, 3, (3, 3)), np.ones((side // 3, side // 3), int))


def slow_distance(classes):
    height, width = classes.shape
    beside = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    border = [
        (y, x)
        for y, x in np.ndindex(height, width)
        for dy, dx in beside
        if 0 <= y + dy < height and 0 <= x + dx < width and classes[y + dy, x + dx] != classes[y, x]
    ]
    return np.array([[min(math.dist((y, x), b) for b in border) for x in range(width)] for y in range(height)])


def test_distances_are_the_slow_ones():
    classes = blocks()
    classes[5, 5] = 255
    np.testing.assert_allclose(border_distance(classes), slow_distance(classes), atol=1e-4)
    assert np.isinf(border_distance(np.ones((4, 4), int))).all()


def test_only_the_band_counts():
    truth = np.repeat([[0] * 8 + [1] * 8], 4, 0)
    shifted = np.repeat([[0] * 7 + [1] * 9], 4, 0)  # one column of eight is wrong
    far = truth.copy()
    far[:, 0] = 1  # wrong, but far from the border
    scores = TrimapIU(2, widths=(1, 4, 100))
    scores.update(shifted, truth)
    ious = scores.compute()
    assert ious["trimap_iu@1"] == pytest.approx((0 + 1 / 2) / 2)
    assert ious["trimap_iu@4"] == pytest.approx((3 / 4 + 4 / 5) / 2)
    whole = ConfusionMatrix(2)
    whole.update(shifted, truth)
    assert ious["trimap_iu@100"] == whole.compute()["mean_iu"]
    other = TrimapIU(2, widths=(4,))
    other.update(far, truth)
    assert other.compute() == {"trimap_iu@4": 1.0}


def test_ignored_pixels_make_a_border_and_are_not_scored():
    truth = np.zeros((3, 9), int)
    truth[:, 4] = 255
    predicted = np.zeros((3, 9), int)
    predicted[:, 4] = 1
    scores = TrimapIU(2, widths=(1,))
    scores.update(predicted, truth)
    assert scores.matrices[1].matrix.tolist() == [[6, 0], [0, 0]]


def test_merging_is_updating_and_an_empty_band_is_nan():
    pairs = [(blocks(), blocks()) for _ in range(2)]
    one, other, both = (TrimapIU(3, widths=(1, 3)) for _ in range(3))
    one.update(*pairs[0])
    other.update(*pairs[1])
    one.merge(other)
    for pair in pairs:
        both.update(*pair)
    assert one.compute() == both.compute()
    flat = TrimapIU(3, widths=(2,))
    flat.update(np.zeros((4, 4), int), np.zeros((4, 4), int))
    assert math.isnan(flat.compute()["trimap_iu@2"])
