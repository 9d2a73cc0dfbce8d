import pickle
import random

import numpy as np
import pytest

from jaxvision.data.overlaps import covered, iou
from jaxvision.metrics.overlaps import judge
from jaxvision.metrics.voc import VocAP

NAMES = ("background", "cat", "dog", "owl", "unseen", "hard")


def problem(seed, images=7):
    """Objects of whole pixels, some difficult, and detections with ties: shaken, repeated, of wrong classes, from nowhere.

    No object is of class 4, and all of class 5 are difficult.
    """
    rng = random.Random(seed)
    truths, results = {}, {}

    def box():
        x, y = rng.randint(0, 60), rng.randint(0, 60)
        return [x, y, x + rng.randint(1, 40), y + rng.randint(1, 40)]

    for image in range(images):
        objects = [(box(), rng.choice((1, 1, 2, 3, 5)), rng.random() < 0.3) for _ in range(rng.randint(0, 6))]
        objects = [(b, label, hard or label == 5) for b, label, hard in objects]
        if objects and rng.random() < 0.5:
            objects.append(objects[0])  # two objects of one box
        found = []
        for b, label, _ in objects:
            for _ in range(rng.randint(0, 3)):
                shaken = [v + rng.choice((0, 0, 0, 1, -1, 4)) for v in b]
                shaken[2], shaken[3] = max(shaken[2], shaken[0] + 1), max(shaken[3], shaken[1] + 1)
                found.append((shaken, rng.choice((label, label, label, 2, 4)), rng.randint(0, 9) / 9))
        found += [(box(), rng.randint(1, 5), rng.randint(0, 9) / 9) for _ in range(rng.randint(0, 3))]
        rng.shuffle(found)
        truths[image] = {
            "boxes": np.array([b for b, *_ in objects], np.float32).reshape(-1, 4),
            "classes": np.array([label for _, label, _ in objects], np.int32),
            "difficult": np.array([hard for *_, hard in objects], bool),
        }
        results[image] = {
            "boxes": np.array([b for b, *_ in found], np.float32).reshape(-1, 4),
            "classes": np.array([label for _, label, _ in found], np.int32),
            "scores": np.array([score for *_, score in found], np.float32),
        }
    return truths, results


def slow_iou(a, b):
    """In VOC's own coordinates: the numbers of the first and last pixel, from 1."""
    (ax, ay, aX, aY), (bx, by, bX, bY) = ((x1 + 1, y1 + 1, x2, y2) for x1, y1, x2, y2 in (map(float, a), map(float, b)))
    width, height = min(aX, bX) - max(ax, bx) + 1, min(aY, bY) - max(ay, by) + 1
    if width <= 0 or height <= 0:
        return 0.0
    union = (aX - ax + 1) * (aY - ay + 1) + (bX - bx + 1) * (bY - by + 1) - width * height
    return width * height / union


def slow_marks(truths, results, label, threshold):
    """[True, False or None for neither] of the class's detections, best first, and the number of objects."""
    rows = []
    for image in sorted(results):
        r = results[image]
        rows += [(float(r["scores"][n]), image, n) for n in range(len(r["scores"])) if r["classes"][n] == label]
    rows.sort(key=lambda row: -row[0])  # stable
    seen, marks = set(), []
    for _, image, n in rows:
        best, which = -1.0, None
        for m, (b, c) in enumerate(zip(truths[image]["boxes"], truths[image]["classes"])):
            if c == label and slow_iou(results[image]["boxes"][n], b) > best:
                best, which = slow_iou(results[image]["boxes"][n], b), m
        if best > threshold:
            if truths[image]["difficult"][which]:
                marks.append(None)
            else:
                marks.append((image, which) not in seen)
                seen.add((image, which))
        else:
            marks.append(False)
    objects = [
        (i, m)
        for i, t in truths.items()
        for m, (c, hard) in enumerate(zip(t["classes"], t["difficult"]))
        if c == label and not hard
    ]
    return marks, len(objects)


def slow_ap(truths, results, label, threshold):
    """(11 points, area) in loops over recalls and precisions; nan without objects."""
    marks, count = slow_marks(truths, results, label, threshold)
    if not count:
        return np.nan, np.nan
    recalls, precisions, right, wrong = [0.0], [0.0], 0, 0
    for mark in marks:
        right, wrong = right + (mark is True), wrong + (mark is False)
        recalls.append(right / count)
        precisions.append(right / (right + wrong) if right + wrong else 0.0)

    def best_from(recall):
        return max((p for r, p in zip(recalls, precisions) if r >= recall), default=0.0)

    eleven = sum(best_from(point * 0.1) for point in range(11)) / 11
    area = 0.0
    for r, previous in zip(sorted(set(recalls))[1:], sorted(set(recalls))):
        area += (r - previous) * best_from(r)
    return eleven, area


def scored(truths, results, threshold=0.5):
    evaluator = VocAP(NAMES, threshold)
    for image in results:
        evaluator.update(image, results[image], truths[image])
    return evaluator


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_it_agrees_with_a_slow_version_on_random_detections(threshold):
    interesting = 0
    for seed in range(40):
        truths, results = problem(seed)
        metrics = scored(truths, results, threshold).compute()
        wanted = np.array([slow_ap(truths, results, label, threshold) for label in range(1, 6)])
        assert np.isnan(wanted[3:]).all()
        for k, rule in enumerate(("voc07", "voc10")):
            name = f"{rule}/AP{round(100 * threshold)}"
            found = [metrics[f"{name}/{label}"] for label in NAMES[1:]]
            np.testing.assert_allclose(found, wanted[:, k], rtol=0, atol=1e-12)
            np.testing.assert_allclose(metrics[name], np.nanmean(wanted[:, k]), rtol=0, atol=1e-12)
            interesting += 0 < metrics[name] < 1
        assert len(metrics) == 12
        everything = [mark for label in (1, 2, 3, 5) for mark in slow_marks(truths, results, label, threshold)[0]]
        interesting += {True, False, None} <= set(everything)
    assert interesting > 100


def test_the_order_of_images_and_their_parts_does_not_matter():
    truths, results = problem(3)
    whole = scored(truths, results)
    turned = scored(truths, dict(reversed(results.items())))
    first, second = (scored(truths, {i: r for i, r in results.items() if i % 2 == k}) for k in (1, 0))
    second.update(1, results[2], truths[2])  # replaced by the other part's
    second.merge(pickle.loads(pickle.dumps(first)))
    assert whole.compute() == pytest.approx(turned.compute(), nan_ok=True, abs=0)
    assert whole.compute() == pytest.approx(second.compute(), nan_ok=True, abs=0)


def one(boxes, classes, scores=None, **marks):
    example = {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "classes": np.array(classes, int)}
    return example | ({} if scores is None else {"scores": np.array(scores, float)}) | marks


def test_a_second_detection_does_not_take_the_next_best_object():
    truth = one([[0, 0, 10, 10], [0, 0, 10, 9]], [1, 1])
    result = one([[0, 0, 10, 10], [0, 0, 10, 10]], [1, 1], [0.9, 0.8])
    assert judge(result, truth).right.tolist() == [True, False]


def test_an_overlap_of_the_threshold_itself_is_too_little():
    truth = one([[0, 0, 10, 10]], [1])
    assert not judge(one([[0, 0, 10, 5]], [1], [1]), truth).right[0]
    assert judge(one([[0, 0, 10, 6]], [1], [1]), truth).right[0]


def test_known_numbers():
    """Two of three objects found, at ranks 1 and 3: recalls 1/3 and 2/3 with precisions 1 and 2/3."""
    truth = one([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [1, 1, 1])
    result = one([[0, 0, 10, 10], [70, 0, 80, 10], [20, 0, 30, 10]], [1, 1, 1], [0.9, 0.8, 0.7])
    metrics = scored({0: truth}, {0: result}).compute()
    assert metrics["voc10/AP50"] == pytest.approx(1 / 3 + 2 / 9)
    assert metrics["voc07/AP50"] == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)  # 0 .. 0.3, and 0.4 .. 0.6
    nothing = scored({0: truth}, {0: one([], [], [])}).compute()
    assert nothing["voc07/AP50"] == nothing["voc10/AP50/cat"] == 0 and np.isnan(nothing["voc07/AP50/dog"])


def test_images_without_objects_have_no_score():
    empty = one([], [])
    metrics = scored({0: empty}, {0: one([[0, 0, 1, 1]], [1], [1])}).compute()
    assert all(np.isnan(value) for value in metrics.values())
    with pytest.raises(ValueError, match="nothing to score"):
        VocAP(NAMES).compute()


def test_a_crowd_excuses_what_lies_in_it_but_takes_nothing():
    truth = one([[0, 0, 10, 10], [0, 0, 100, 100]], [1, 1], crowd=np.array([False, True]))
    result = one(
        [[0, 0, 10, 10], [0, 0, 10, 10], [95, 95, 120, 120], [50, 50, 60, 60]], [1, 1, 1, 2], [0.9, 0.8, 0.7, 0.6]
    )
    judged = judge(result, truth)
    assert judged.right.tolist() == [True, False, False, False]
    assert judged.aside.tolist() == [False, True, False, False] and judged.counted.tolist() == [True, False]


def test_overlaps_agree_with_slow_ones():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 30, (25, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1) + 1], 1).astype(np.float32)
    found, shares = iou(boxes[:10], boxes[10:]), covered(boxes[:10], boxes[10:])
    for i in range(10):
        for j in range(15):
            assert found[i, j] == pytest.approx(slow_iou(boxes[i], boxes[10 + j]), abs=1e-12)
            (x1, y1, x2, y2), (u1, v1, u2, v2) = boxes[i].astype(int), boxes[10 + j].astype(int)
            inside = sum(u1 <= x < u2 and v1 <= y < v2 for x in range(x1, x2) for y in range(y1, y2))
            assert shares[i, j] == pytest.approx(inside / ((x2 - x1) * (y2 - y1)), abs=1e-12)
    flat = np.zeros((1, 4))
    assert iou(flat, flat)[0, 0] == covered(flat, boxes)[0, 0] == 0 and iou(np.zeros((0, 4)), boxes).shape == (0, 25)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": np.zeros((1, 5))}, r"boxes have shape \(1, 5\)"),
        ({"classes": np.zeros(2)}, r"classes have shape \(2,\), expected \(1,\)"),
        ({"scores": np.array([np.nan])}, "scores .* not finite"),
    ],
)
def test_results_of_another_form_are_named(changes, message):
    result = one([[0, 0, 1, 1]], [1], [1]) | changes
    with pytest.raises(ValueError, match=message):
        judge(result, one([], []))
