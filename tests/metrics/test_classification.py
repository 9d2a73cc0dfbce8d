import numpy as np
import pytest

from jaxvision.metrics.classification import TopK


def test_agrees_with_sorting():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (200, 10)) / 5  # many ties
    labels = rng.integers(0, 10, 200)
    order = [sorted(range(10), key=lambda c: (-row[c], c)) for row in scores]
    expected = {f"top{k}": np.mean([label in o[:k] for label, o in zip(labels, order)]) for k in (1, 3, 5)}
    first, second = TopK((1, 3, 5)), TopK((1, 3, 5))
    first.update(scores[:50], labels[:50])
    second.update(scores[50:120], labels[50:120])
    second.update(scores[120:], labels[120:])
    first.merge(second)
    assert first.compute() == pytest.approx(expected)
    assert 0 < expected["top1"] < expected["top5"] < 1


def test_by_hand():
    top = TopK((1, 2))
    top.update(np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]), np.array([1, 1, 1]))
    assert top.compute() == {"top1": pytest.approx(1 / 3), "top2": pytest.approx(2 / 3)}


@pytest.mark.parametrize(
    "scores, labels, message",
    [
        (np.zeros((2, 3)), np.zeros(3, int), r"labels \(3,\)"),
        (np.zeros(3), np.zeros(3, int), "scores have shape"),
        (np.full((1, 3), np.nan), np.zeros(1, int), "NaN in row 0"),
        (np.zeros((1, 3)), np.array([3]), r"labels are 3\.\.3, expected 0\.\.2"),
        (np.zeros((1, 3)), np.array([-1]), "labels are -1"),
    ],
)
def test_what_is_wrong_is_named(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        TopK().update(scores, labels)


def test_nothing_given():
    with pytest.raises(ValueError, match="no image"):
        TopK().compute()
