import numpy as np
import pytest

from jaxvision.metrics.classification import AtK, LabelAP, TopK


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


def test_precision_and_recall_at_k_by_hand():
    at = AtK((1, 2, 3))
    at.update(np.array([0.9, 0.1, 0.8, 0.3]), np.array([1, 1, 0, 1], bool))  # ranked 0, 2, 3, 1
    at.update(np.array([0.1, 0.5, 0.5, 0.2]), np.array([0, 0, 1, 0], bool))  # equal scores: 1 before 2
    at.update(np.array([0.4, 0.3, 0.2, 0.1]), np.zeros(4, bool))  # nothing to be found
    wanted = {"precision@1": 1 / 3, "precision@2": (1 / 2 + 1 / 2) / 3, "precision@3": (2 / 3 + 1 / 3) / 3}
    wanted |= {"recall@1": 1 / 6, "recall@2": (1 / 3 + 1) / 2, "recall@3": (2 / 3 + 1) / 2}
    assert at.compute() == pytest.approx(wanted)


def test_of_one_label_recall_is_top_k_accuracy():
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(0, 6, (60, 10)) / 5, rng.integers(0, 10, 60)
    top, at, other = TopK((1, 3)), AtK((1, 3)), AtK((1, 3))
    top.update(scores, labels)
    for n, (row, label) in enumerate(zip(scores, labels)):
        (at if n % 2 else other).update(row, np.arange(10) == label)
    at.merge(other)
    found, accuracy = at.compute(), top.compute()
    for k in (1, 3):
        assert found[f"recall@{k}"] == pytest.approx(accuracy[f"top{k}"])
        assert found[f"precision@{k}"] == pytest.approx(accuracy[f"top{k}"] / k)


def slow_ap(scores, labels, points):
    """Precision at each positive, made monotone, from a ranking by hand; at eleven points, or at every recall."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    curve, hits = [], 0
    for n, i in enumerate(order, 1):
        hits += labels[i]
        curve.append((hits / sum(labels), hits / n))
    if points:
        return sum(max((p for r, p in curve if r >= t / 10 - 1e-12), default=0) for t in range(11)) / 11
    total, last = 0.0, 0.0
    for r, _ in curve:
        if r > last:
            total += (r - last) * max(p for q, p in curve if q >= r)
            last = r
    return total


def test_average_precision_agrees_with_loops():
    rng = np.random.default_rng(2)
    scores, labels = rng.integers(0, 20, (40, 4)) / 20, rng.random((40, 4)) < [0.1, 0.5, 0.9, 0]
    whole, first, second = (LabelAP("abcd") for _ in range(3))
    for i in range(40):
        whole.update(100 + i, scores[i], labels[i])
        (first if i < 17 else second).update(100 + i, scores[i], labels[i])
    second.merge(first)
    found = whole.compute()
    np.testing.assert_equal(second.compute(), found)
    wanted = [slow_ap(scores[:, k], labels[:, k], False) for k in range(3)]
    assert [found[f"AP/{name}"] for name in "abc"] == pytest.approx(wanted) and np.isnan(found["AP/d"])
    assert found["mAP"] == pytest.approx(np.mean(wanted))
    assert found["mAP/voc07"] == pytest.approx(np.mean([slow_ap(scores[:, k], labels[:, k], True) for k in range(3)]))
    assert 0.1 < wanted[0] < wanted[2] < 1


def test_average_precision_by_hand():
    ap = LabelAP(["a"])
    for i, (score, label) in enumerate([(0.9, 1), (0.8, 0), (0.7, 1), (0.6, 0)]):
        ap.update(i, np.array([score]), np.array([label]))
    ap.update(3, np.array([0.6]), np.array([0]))  # again
    assert ap.compute()["AP/a"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert ap.compute()["mAP/voc07"] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_what_cannot_be_scored_is_named():
    for metric, arguments in ((AtK(), ()), (LabelAP("ab"), (7,))):
        with pytest.raises(ValueError, match="no image"):
            metric.compute()
        with pytest.raises(ValueError, match=r"scores have shape \(2,\), labels \(3,\)"):
            metric.update(*arguments, np.zeros(2), np.zeros(3))
        with pytest.raises(ValueError, match="NaN, of class 1"):
            metric.update(*arguments, np.array([0, np.nan]), np.zeros(2))
    with pytest.raises(ValueError, match="3 scores for 2 classes"):
        LabelAP("ab").update(0, np.zeros(3), np.zeros(3))
