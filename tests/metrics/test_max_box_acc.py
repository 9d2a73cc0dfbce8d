"""MaxBoxAcc, V2, PxAP and the pointing game, against the protocols read literally in plain Python."""

import cv2
import numpy as np
import pytest

from jaxvision.metrics.max_box_acc import THRESHOLDS, MaxBoxAcc, contour_boxes, score_map
from jaxvision.metrics.pointing import PointingGame
from jaxvision.metrics.pxap import PixelAP

LEVELS = np.arange(0, 1, 0.2)


def smooth(rng, side=24, cells=6):
    """A score map with several tops, from 0 to 1."""
    return score_map(rng.random((cells, cells)), side)


def protocol_boxes(score, threshold):
    """[(box, enclosed area)] of every contour at one threshold: thresholding by hand, contours by OpenCV."""
    values = [[int(255 * float(v)) for v in row] for row in score]
    limit = int(threshold * max(map(max, values)))
    above = np.array([[255 * (v > limit) for v in row] for row in values], np.uint8)
    contours, _ = cv2.findContours(above, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in contours:
        points = contour[:, 0].tolist()
        x1, y1 = (min(p[i] for p in points) for i in (0, 1))
        x2, y2 = (min(max(p[i] for p in points) + 1, score.shape[1 - i] - 1) for i in (0, 1))
        area = abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, points[1:] + points[:1]))) / 2
        found.append(((x1, y1, x2, y2), area))
    return found or [((0, 0, 0, 0), 0)]


def inclusive_iou(a, b):
    """Of boxes whose last pixels belong to them."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return shared / (sum(areas) - shared)


def examples(count=12):
    """(score map, boxes, (height, width) of the image), the last box about where the map's largest contour is."""
    rng = np.random.default_rng(0)
    for n in range(count):
        score, (height, width) = smooth(rng), (30 + n, 41 - n)
        box = max(protocol_boxes(score, rng.uniform(0.3, 0.8)), key=lambda found: found[1])[0]
        near = np.multiply(box, [width, height] * 2) / 24 + rng.integers(-3, 4, 4) + [0, 0, 3, 3]
        yield score, np.array([[2, 3, 12, 10], near][n % 2 :]), (height, width)


def test_max_box_acc_is_the_protocol():
    """Every hundredth threshold of the thousand, the hits counted image by image."""
    first, second = MaxBoxAcc(), MaxBoxAcc()
    largest, best = np.zeros((2, 3, 10), int)
    for n, (score, boxes, (height, width)) in enumerate(examples()):
        (first if n < 5 else second).update(score, boxes, (height, width))
        truth = [
            (int(x1 * 24 / width), int(y1 * 24 / height), int((x2 - 1) * 24 / width), int((y2 - 1) * 24 / height))
            for x1, y1, x2, y2 in boxes.tolist()
        ]
        for column, threshold in enumerate(THRESHOLDS[::100]):
            found = protocol_boxes(score, threshold)
            overlaps = [max(inclusive_iou(box, t) for t in truth) for box, _ in found]
            top = max(range(len(found)), key=lambda k: found[k][1])
            for row, limit in enumerate((0.3, 0.5, 0.7)):
                largest[row, column] += overlaps[top] >= limit
                best[row, column] += max(overlaps) >= limit
    first.merge(second)
    np.testing.assert_array_equal(first.largest[:, ::100], largest)
    np.testing.assert_array_equal(first.best[:, ::100], best)
    assert (best != largest).any() and 0 < largest[1].max() < 12
    scores = first.compute()
    assert scores["max_box_acc"] == first.largest[1].max() / 12
    assert scores["max_box_acc_v2"] == pytest.approx(np.mean([row.max() / 12 for row in first.best]))
    np.testing.assert_array_equal(first.curves()[0.5], first.largest[1] / 12)


def test_boxes_of_the_authors_own_examples():
    """The expected boxes of evaluation_test.py of wsolevaluation."""

    def largest(score):
        score = (np.array(score) * 255).astype(np.uint8)
        for threshold in LEVELS:
            boxes, areas = contour_boxes(score, int(threshold * score.max()))
            yield boxes[areas.argmax()].tolist()

    one = [[0, 0, 0, 0, 0], [0, 0.4, 0.4, 0.4, 0.6], [0, 0.4, 1, 0.8, 0.6], [0, 0.4, 0.4, 0.4, 0.6]]
    assert list(largest(one)) == [[1, 1, 4, 3], [1, 1, 4, 3], [2, 1, 4, 3], [2, 2, 4, 3], [2, 2, 3, 3]]
    many = [[0.4, 0, 0.2, 0.2, 0.2], [0.4, 0.4, 0, 0.4, 0], [0, 0, 0, 0.4, 0], [1, 0.6, 0.8, 0.2, 0.2]]
    assert list(largest(many)) == [[0, 0, 4, 3], [0, 0, 2, 2], [0, 3, 3, 3], [2, 3, 3, 3], [0, 3, 1, 3]]
    assert list(largest(np.zeros((3, 3)))) == [[0, 0, 0, 0]] * 5


def test_v2_takes_the_best_of_all_contours_and_holes_too():
    score = np.zeros((60, 60))
    score[5:55, 5:55] = 1
    score[20:35, 20:40] = 0
    hole, count = MaxBoxAcc(), MaxBoxAcc()
    hole.update(score, [[19, 19, 41, 36]], (60, 60))
    assert hole.compute() == {"max_box_acc": 0, "max_box_acc_v2": 1}
    count.update(score, [[5, 5, 55, 55]], (60, 60))
    assert count.compute() == {"max_box_acc": 1, "max_box_acc_v2": 1}


def test_a_constant_map_finds_nothing():
    boxes = MaxBoxAcc()
    boxes.update(score_map(np.full((4, 4), 3.0)), [[50, 50, 100, 100]], (224, 224))
    assert boxes.compute() == {"max_box_acc": 0, "max_box_acc_v2": 0}


def test_pixel_ap_is_the_sum_over_thresholds():
    rng = np.random.default_rng(3)
    first, second, pixels = PixelAP(), PixelAP(), []
    for n in range(4):
        score, mask, ignore = smooth(rng), rng.random((24, 24)) < 0.3, rng.random((24, 24)) < 0.2
        mask |= (score > 0.7) & (rng.random((24, 24)) < 0.5)
        (first if n < 2 else second).update(score, mask, ignore)
        pixels += [(s, m) for s, m, i in zip(score.ravel(), mask.ravel(), ignore.ravel()) if m or not i]
    first.merge(second)
    total, area, before = sum(m for _, m in pixels), 0, 0
    for threshold in [1, *THRESHOLDS[::-1]]:
        found = [m for s, m in pixels if s >= threshold]
        if found:
            area += sum(found) / len(found) * (sum(found) / total - before)
            before = sum(found) / total
    assert first.compute() == pytest.approx(area)
    assert 0.3 < area < 0.9


def test_pixel_ap_of_perfect_and_of_constant_maps():
    mask, ignore = np.zeros((2, 40, 50), bool)
    mask[10:20, 10:35] = True
    ignore[30:] = True
    large = cv2.resize(mask.astype(np.uint8), (224, 224), interpolation=cv2.INTER_NEAREST).astype(float)
    for value in (0, 1):  # what is ignored may be anything
        perfect = PixelAP()
        perfect.update(np.where(np.arange(224)[:, None] >= 168, value, large), mask, ignore)
        assert perfect.compute() == 1
    constant = PixelAP()
    constant.update(np.full((224, 224), 0.5), mask)
    assert constant.compute() == pytest.approx(large.mean())


def test_pointing_is_a_hit_within_the_tolerance():
    rng = np.random.default_rng(4)
    for tolerance in (0, 3, 5.5):
        first, second = PointingGame(3, tolerance), PointingGame(3, tolerance)
        hits = [[], [], []]
        for n in range(40):
            evidence, mask, label = rng.normal(size=(20, 25)), np.zeros((20, 25), bool), int(rng.integers(2))
            y, x = rng.integers(0, 15, 2)
            mask[y : y + 5, x : x + 6] = True
            (first if n % 2 else second).update(evidence, label, mask)
            top = max(((v, -i, -j) for i, row in enumerate(evidence) for j, v in enumerate(row)))
            away = min(np.hypot(i + top[1], j + top[2]) for i, j in np.argwhere(mask).tolist())
            hits[label].append(away <= tolerance)
        first.merge(second)
        assert first.compute() == pytest.approx((np.mean(hits[0]) + np.mean(hits[1])) / 2)
        assert 0 < first.compute() < 1
    flat = PointingGame(1)
    flat.update(np.ones((3, 3)), 0, np.ones((3, 3), bool))
    assert flat.compute() == 0  # it points nowhere


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (lambda: MaxBoxAcc().update(np.full((4, 4), 2.0), [[0, 0, 1, 1]], (4, 4)), r"values in 0\.\.1"),
        (lambda: MaxBoxAcc().update(np.full((4, 4), np.nan), [[0, 0, 1, 1]], (4, 4)), r"values in 0\.\.1"),
        (lambda: MaxBoxAcc().update(np.zeros((4, 4)), np.zeros((0, 4)), (4, 4)), "at least one box"),
        (lambda: PixelAP().update(np.full((4, 4), -1.0), np.ones((4, 4))), r"values in 0\.\.1"),
        (lambda: PixelAP().update(np.zeros((4, 4)), np.ones((4, 4)), np.ones((3, 4))), r"ignore \(3, 4\)"),
        (lambda: PointingGame(2).update(np.zeros((4, 4)), 0, np.zeros((4, 4))), "with a pixel"),
        (lambda: PointingGame(2).update(np.zeros((4, 4)), 0, np.ones((4, 5))), r"got \(4, 5\)"),
        (lambda: PointingGame(2).update(np.zeros((4, 4)), 2, np.ones((4, 4))), r"class 2 is not among 0\.\.1"),
        (lambda: MaxBoxAcc().compute(), "no image"),
        (lambda: PixelAP().compute(), "no image"),
        (lambda: PointingGame(2).compute(), "no image"),
    ],
)
def test_what_is_wrong_is_named(update, message):
    with pytest.raises(ValueError, match=message):
        update()
