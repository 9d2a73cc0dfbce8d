import numpy as np
import pytest

from jaxvision.metrics.localization import CorLoc, Localization


def overlap(a, b):
    """IoU of two boxes, in plain Python."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def image(rng, classes=7):
    """Probabilities with ties, boxes near the true ones, a label and one to three true boxes."""
    label, count = int(rng.integers(classes - 1)), rng.integers(1, 4)  # the last class is in no image
    corner = rng.integers(0, 20, (count, 2))
    truth = np.concatenate([corner, corner + rng.integers(4, 12, (count, 2))], 1)
    boxes = truth[rng.integers(count, size=classes)] + rng.integers(-2, 3, (classes, 4))
    return rng.integers(0, 6, classes) / 5, boxes, label, truth


def test_agrees_with_the_definitions_read_literally():
    rng = np.random.default_rng(0)
    images = [image(rng) for _ in range(200)]
    right = [max(overlap(boxes[label], t) for t in truth) >= 0.5 for _, boxes, label, truth in images]
    order = [sorted(range(7), key=lambda c: (-p[c], c)) for p, *_ in images]
    expected = {"loc/gt_known": np.mean(right)}
    for k in (1, 5):
        among = [label in o[:k] for (_, _, label, _), o in zip(images, order)]
        expected[f"top{k}"] = np.mean(among)
        expected[f"loc/top{k}"] = np.mean([a and r for a, r in zip(among, right)])
        errors = []  # ILSVRC: of k guesses the one with the smaller of two errors, that of class and that of place
        for (_, boxes, label, truth), o in zip(images, order):
            placed = [all(overlap(boxes[guess], t) < 0.5 for t in truth) for guess in o[:k]]
            errors.append(min(max(guess != label, wrong) for guess, wrong in zip(o[:k], placed)))
        expected[f"loc/top{k}_error"] = np.mean(errors)
    of_class = [[r for r, (_, _, label, _) in zip(right, images) if label == c] for c in range(6)]
    expected["loc/corloc"] = np.mean([np.mean(rights) for rights in of_class])

    first, second = Localization(7), Localization(7)
    for i, (p, boxes, label, truth) in enumerate(images):
        (first if i < 80 else second).update(p, boxes, label, truth)
    first.merge(second)
    assert first.compute() == pytest.approx(expected)
    assert expected["loc/top1"] < expected["loc/top5"] < expected["loc/gt_known"] != expected["loc/corloc"]


def test_by_hand():
    scores = Localization(2)
    scores.update([0.3, 0.7], [[0, 0, 10, 10], [0, 0, 10, 5]], 1, [[0, 0, 10, 10], [50, 50, 60, 60]])  # IoU 0.5: right
    scores.update([0.6, 0.4], [[0, 0, 10, 10], [0, 0, 10, 10]], 1, [[0, 0, 10, 10]])  # another class is guessed
    scores.update([0.6, 0.4], [[0, 0, 10, 4], [0, 0, 10, 10]], 0, [[0, 0, 10, 10]])  # the guessed class's box is wrong
    assert scores.compute() == {
        "top1": pytest.approx(2 / 3),
        "loc/top1": pytest.approx(1 / 3),
        "loc/top1_error": pytest.approx(2 / 3),
        "loc/gt_known": pytest.approx(2 / 3),
        "loc/corloc": 0.5,
    }


def test_corloc_of_several_classes():
    def table(**options):
        corloc = CorLoc(3, **options)
        # Class 0 is hit at exactly a half, class 1 overlaps only the object of class 0, class 2 is nowhere.
        corloc.update([[0, 0, 4, 4], [0, 0, 4, 8], [0, 0, 4, 4]], [[0, 0, 4, 8], [20, 20, 24, 28]], [0, 1])
        corloc.update([[0, 0, 4, 8]] * 3, [[0, 0, 4, 8], [9, 9, 10, 10]], [0, 0])
        return corloc

    np.testing.assert_array_equal(table().table(), [1, 0, np.nan])
    np.testing.assert_array_equal(table(strict=True).table(), [0.5, 0, np.nan])
    assert table().compute() == 0.5 and table(strict=True).compute() == 0.25


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([0.5, 0.5], np.zeros((2, 4)), 0, np.zeros((1, 4))), r"probabilities have shape \(2,\), expected \(3,\)"),
        (([0.5, np.nan, 0.5], np.zeros((3, 4)), 0, np.zeros((1, 4))), "NaN"),
        ((np.zeros(3), np.zeros((2, 4)), 0, np.zeros((1, 4))), r"boxes have shape \(2, 4\), expected \(3, 4\)"),
        ((np.zeros(3), np.full((3, 4), np.inf), 0, np.zeros((1, 4))), "boxes .* not finite"),
        ((np.zeros(3), np.zeros((3, 4)), 0, np.zeros((1, 5))), r"truth_boxes have shape \(1, 5\)"),
        ((np.zeros(3), np.zeros((3, 4)), 0, np.zeros((0, 4))), "class 0 has no box"),
        ((np.zeros(3), np.zeros((3, 4)), 3, np.zeros((1, 4))), r"3, expected 0\.\.2|3\.\.3, expected 0\.\.2"),
        ((np.zeros(3), np.zeros((3, 4)), -1, np.zeros((1, 4))), "-1"),
    ],
)
def test_what_is_wrong_is_named_and_counts_nowhere(arguments, message):
    scores = Localization(3)
    with pytest.raises(ValueError, match=message):
        scores.update(*arguments)
    assert scores.top.count == scores.corloc.images.sum() == 0


def test_nothing_given():
    for scores in (Localization(3), CorLoc(3)):
        with pytest.raises(ValueError, match="no image"):
            scores.compute()
