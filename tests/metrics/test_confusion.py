import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.metrics.confusion import ConfusionMatrix


def slow(pairs, count):
    """The four scores by a loop over pixels, from the definitions."""
    n = [[0] * count for _ in range(count)]
    for predicted, truth in pairs:
        for p, t in zip(predicted.ravel(), truth.ravel()):
            if t != 255:
                n[t][p] += 1
    total = sum(map(sum, n))
    accuracies, ious, weighted = [], [], 0
    for i in range(count):
        truth, predicted = sum(n[i]), sum(row[i] for row in n)
        if truth:
            accuracies.append(n[i][i] / truth)
        if truth + predicted:
            ious.append(n[i][i] / (truth + predicted - n[i][i]))
        if truth:
            weighted += truth * ious[-1] / total
    return {
        "pixel_accuracy": sum(n[i][i] for i in range(count)) / total,
        "mean_accuracy": np.mean(accuracies),
        "mean_iu": np.mean(ious),
        "frequency_weighted_iu": weighted,
    }


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 6))
def test_agrees_with_a_slow_loop(seed, count):
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(3):
        size = rng.integers(1, 9, 2)
        truth = rng.integers(0, rng.integers(1, count + 1), size)
        truth[rng.random(size) < 0.2] = 255
        pairs.append((rng.integers(0, count, size).astype(np.uint8), truth))
    pairs.append((np.zeros((1, 1), int), np.zeros((1, 1), int)))
    together, first, second = (ConfusionMatrix(count) for _ in range(3))
    for k, pair in enumerate(pairs):
        together.update(*pair)
        (first if k % 2 else second).update(*pair)
    assert together.compute() == pytest.approx(slow(pairs, count), abs=1e-12)
    first.merge(second)
    assert first.compute() == together.compute()


def test_by_hand():
    matrix = ConfusionMatrix(4)
    matrix.update(np.array([[0, 0, 1, 2, 2, 1]]), np.array([[0, 0, 0, 1, 255, 1]]))
    assert matrix.matrix.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0] * 4, [0] * 4]
    # Class 2 is predicted and never true: it counts 0 in the mean IU; class 3 is nowhere: it does not count.
    expected = {"pixel_accuracy": 3 / 5, "mean_accuracy": (2 / 3 + 1 / 2) / 2, "mean_iu": (2 / 3 + 1 / 3 + 0) / 3}
    assert matrix.compute() == pytest.approx(expected | {"frequency_weighted_iu": (3 * 2 / 3 + 2 / 3) / 5})
    table = matrix.table()
    assert table["pixels"].tolist() == [3, 2, 0, 0]
    np.testing.assert_allclose(table["iu"], [2 / 3, 1 / 3, 0, np.nan])
    np.testing.assert_allclose(table["accuracy"], [2 / 3, 1 / 2, np.nan, np.nan])
    np.testing.assert_allclose(table["binary_accuracy"], [4 / 5, 3 / 5, 4 / 5, 1])


def test_binary_accuracy_is_that_of_each_class_against_the_rest():
    rng = np.random.default_rng(0)
    predicted, truth = rng.integers(0, 4, (2, 9, 11))
    truth[rng.random(truth.shape) < 0.2] = 255
    matrix = ConfusionMatrix(5)
    matrix.update(predicted, truth)
    for k, value in enumerate(matrix.table()["binary_accuracy"]):
        alike = [(p == k) == (t == k) for p, t in zip(predicted.flat, truth.flat) if t != 255]
        assert value == pytest.approx(sum(alike) / len(alike))


def test_what_is_wrong_is_named():
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=r"predicted has shape \(2, 2\), truth \(2, 3\)"):
        matrix.update(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(ValueError, match=r"predicted holds classes 0\.\.3, expected 0\.\.2"):
        matrix.update(np.array([0, 3]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"truth holds classes -1\.\.0, expected 0\.\.2 or 255"):
        matrix.update(np.array([0, 1]), np.array([0, -1]))
    matrix.update(np.array([7]), np.array([255]))
    with pytest.raises(ValueError, match="nothing to score"):
        matrix.compute()
