import pickle
import random

import numpy as np
import pytest

from jaxvision.data.voc import CLASSES
from jaxvision.metrics.detection_confusion import DetectionConfusion
from jaxvision.metrics.error_types import TYPES, VOC_GROUPS, ErrorTypes
from jaxvision.metrics.recall import ProposalRecall

NAMES = ("background", "cat", "dog", "car", "unseen")
PETS = (("cat", "dog"),)


def slow_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def slow_share(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / ((a[2] - a[0]) * (a[3] - a[1]))


def problem(seed, images=8):
    rng = random.Random(seed)
    truths, results = {}, {}

    def box(side=40):
        x, y = rng.randint(0, 60), rng.randint(0, 60)
        return [float(v) for v in (x, y, x + rng.randint(3, side), y + rng.randint(3, side))]

    for image in range(images):
        objects = [(box(), rng.randint(1, 3), rng.choice(("", "", "", "difficult"))) for _ in range(rng.randint(0, 5))]
        if rng.random() < 0.3:
            objects.append((box(80), rng.randint(1, 3), "crowd"))
        found = []
        for b, label, _ in objects:
            for _ in range(rng.randint(0, 3)):
                move = rng.choice((0, 1, 3, 8, 15))
                found.append(
                    (
                        [v + rng.choice((0, move)) for v in b[:2]] + [v + move for v in b[2:]],
                        rng.choice((label, label, 1, 2, 3, 4)),
                    )
                )
        found += [(box(), rng.randint(1, 4)) for _ in range(rng.randint(0, 3))]
        rng.shuffle(found)
        truths[image] = {
            "boxes": np.array([b for b, *_ in objects], np.float32).reshape(-1, 4),
            "classes": np.array([c for _, c, _ in objects], np.int32),
            "difficult": np.array([mark == "difficult" for *_, mark in objects], bool),
            "crowd": np.array([mark == "crowd" for *_, mark in objects], bool),
        }
        results[image] = {
            "boxes": np.array([b for b, _ in found], np.float32).reshape(-1, 4),
            "classes": np.array([c for _, c in found], np.int32),
            "scores": np.array([rng.randint(0, 12) / 12 for _ in found], np.float32),
        }
    return truths, results


def rows_of(truth):
    return list(zip(truth["boxes"].tolist(), truth["classes"].tolist(), truth["difficult"], truth["crowd"]))


def slow_types(truths, results, label):
    """{type: number} of the best N of a class, in loops."""
    detections = [
        (-float(r["scores"][n]), image, r["boxes"][n].tolist())
        for image, r in sorted(results.items())
        for n in range(len(r["scores"]))
        if r["classes"][n] == label
    ]
    detections.sort(key=lambda row: row[0])
    count = sum(c == label and not hard and not crowd for t in truths.values() for _, c, hard, crowd in rows_of(t))
    found, kinds = set(), []
    for _, image, box in detections:
        rows = rows_of(truths[image])
        own = [(slow_iou(box, b), m) for m, (b, c, _, crowd) in enumerate(rows) if c == label and not crowd]
        best, which = max(own, key=lambda pair: (pair[0], -pair[1]), default=(0, None))
        touched = {c for b, c, *_ in rows if slow_iou(box, b) >= 0.1}
        if best > 0.5 and rows[which][2]:
            continue
        if best > 0.5 and (image, which) not in found:
            found.add((image, which))
            kinds.append("correct")
        elif any(crowd and c == label and slow_share(box, b) > 0.5 for b, c, _, crowd in rows):
            continue
        elif label in touched:
            kinds.append("localisation")
        elif label in (1, 2) and touched & {1, 2}:
            kinds.append("similar")
        else:
            kinds.append("other" if touched else "background")
    kinds = kinds[:count] + ["missing"] * (count - len(kinds))
    return {name: kinds.count(name) for name in TYPES}


def collected(accumulator, truths, results):
    for image in results:
        accumulator.update(image, results[image], truths[image])
    return accumulator


def test_error_types_agree_with_a_slow_version():
    seen = np.zeros(len(TYPES), int)
    for seed in range(40):
        truths, results = problem(seed)
        if seed % 2:  # fewer than there are objects
            results = {image: {name: value[::4] for name, value in r.items()} for image, r in results.items()}
        errors = collected(ErrorTypes(NAMES, PETS), truths, results)
        wanted = np.array([list(slow_types(truths, results, label).values()) for label in range(1, 5)])
        np.testing.assert_array_equal(errors.table(), wanted)
        seen += wanted.sum(0)
        metrics, present = errors.compute(), wanted[wanted.sum(1) > 0]
        shares = (present / present.sum(1, keepdims=True)).mean(0)
        assert list(metrics) == ["correct@N", *(f"errors/{name}" for name in TYPES[1:])]
        np.testing.assert_allclose(list(metrics.values()), shares, rtol=0, atol=1e-12)
        assert sum(metrics.values()) == pytest.approx(1)
    assert (seen > 20).all(), seen


def test_similar_classes_are_vocs_or_those_given():
    def similar(errors, a, b):
        return bool(errors.similar[errors.class_names.index(a), errors.class_names.index(b)])

    errors = ErrorTypes(CLASSES)
    for a, b in (("bird", "aeroplane"), ("bird", "person"), ("sofa", "chair"), ("train", "bicycle")):
        assert similar(errors, a, b) and similar(errors, b, a)
    for a, b in (("aeroplane", "cat"), ("bottle", "chair"), ("bird", "bird"), ("tvmonitor", "sofa")):
        assert not similar(errors, a, b) and not similar(errors, b, a)
    assert "similar" in errors.types and set().union(*VOC_GROUPS) < set(CLASSES)
    assert not ErrorTypes(NAMES).similar.any() and not ErrorTypes(CLASSES, ()).similar.any()
    with pytest.raises(ValueError, match=r"unknown classes \['cow'\] in a group; known: cat, dog"):
        ErrorTypes(NAMES, (("cat", "cow"),))


def test_without_groups_nothing_is_similar():
    truths, results = problem(1)
    plain, grouped = (collected(ErrorTypes(NAMES, groups), truths, results) for groups in ((), PETS))
    assert grouped.table()[:, 2].sum() > 0 == plain.table()[:, 2].sum()
    np.testing.assert_array_equal(plain.table()[:, 3], grouped.table()[:, 2:4].sum(1))
    assert "errors/similar" not in plain.compute() and "similar" not in plain.types
    assert sum(plain.compute().values()) == pytest.approx(1)


def slow_confusion(truths, results, least):
    matrix = np.zeros((5, 5), int)
    for image, r in results.items():
        rows, free = rows_of(truths[image]), set(range(len(truths[image]["classes"])))
        for n in sorted(range(len(r["scores"])), key=lambda n: -r["scores"][n]):
            if r["scores"][n] < least:
                continue
            box = r["boxes"][n].tolist()
            pairs = [(slow_iou(box, rows[m][0]), -m) for m in free if not rows[m][3]]
            best, m = max(pairs, default=(0, None))
            if best >= 0.5:
                free.remove(-m)
                if not rows[-m][2]:
                    matrix[rows[-m][1], r["classes"][n]] += 1
            elif not any(crowd and slow_share(box, b) >= 0.5 for b, _, _, crowd in rows):
                matrix[0, r["classes"][n]] += 1
        for m in free:
            if not rows[m][2] and not rows[m][3]:
                matrix[rows[m][1], 0] += 1
    return matrix


@pytest.mark.parametrize("least", [0, 0.5])
def test_confusion_agrees_with_a_slow_version(least):
    total = np.zeros((5, 5), int)
    for seed in range(20):
        truths, results = problem(seed)
        found = collected(DetectionConfusion(5, least), truths, results).matrix
        np.testing.assert_array_equal(found, slow_confusion(truths, results, least))
        objects = np.bincount(
            [c for t in truths.values() for _, c, *aside in rows_of(t) if not any(aside)], minlength=5
        )
        np.testing.assert_array_equal(found.sum(1)[1:], objects[1:])  # each object once
        total += found
    assert (total[1:4, :4] > 0).all() and (total[0, 1:] > 0).all() and total[0, 0] == 0


def slow_recall(truths, proposals, count, threshold):
    best = []
    for image, truth in truths.items():
        for box, label, *aside in rows_of(truth):
            if not any(aside):
                best.append((label, max((slow_iou(p, box) for p in proposals[image][:count].tolist()), default=0)))
    overlaps = [overlap for _, overlap in best]
    classes = [[overlap for c, overlap in best if c == label] for label in range(1, 5)]
    return (
        np.mean([overlap >= threshold for overlap in overlaps]),
        np.mean([overlap >= t for overlap in overlaps for t in np.linspace(0.5, 0.95, 10)]),
        np.mean(overlaps),
        np.mean([np.mean(c) for c in classes if c]),
    )


def test_recall_of_proposals_agrees_with_a_slow_version():
    truths, results = problem(5, images=12)
    proposals = {image: np.repeat(r["boxes"], 2, 0) for image, r in results.items()}
    proposals[3] = np.zeros((0, 4), np.float32)
    recall = ProposalRecall(NAMES, (1, 2, 5, 40))
    for image in truths:
        recall.update(image, proposals[image], truths[image])
    metrics = recall.compute()
    for count in (1, 2, 5, 40):
        at_half, average, abo, mabo = slow_recall(truths, proposals, count, 0.5)
        assert metrics[f"recall50@{count}"] == pytest.approx(at_half)
        assert metrics[f"recall70@{count}"] == pytest.approx(slow_recall(truths, proposals, count, 0.7)[0])
        assert metrics[f"AR@{count}"] == pytest.approx(average)
        assert metrics[f"ABO@{count}"] == pytest.approx(abo) and metrics[f"MABO@{count}"] == pytest.approx(mabo)
    assert 0 < metrics["recall50@1"] < metrics["recall50@5"] < metrics["recall50@40"] < 1
    assert metrics["proposals"] == np.mean([len(p) for p in proposals.values()])


def test_recall_of_nothing():
    recall = ProposalRecall(NAMES, (1, 10))
    with pytest.raises(ValueError, match="nothing to score"):
        recall.compute()
    empty = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0)}
    recall.update(0, np.zeros((3, 4)), empty)
    metrics = recall.compute()
    assert metrics.pop("proposals") == 3 and np.isnan(list(metrics.values())).all()
    recall.update(0, np.zeros((0, 4)), {"boxes": np.ones((1, 4)), "classes": np.ones(1)})  # the last counts
    metrics = recall.compute()
    assert metrics["proposals"] == 0 == metrics["recall50@10"] == metrics["MABO@1"]
    for proposals, message in (
        (np.zeros((2, 5)), r"of image 7 have shape \(2, 5\)"),
        (np.full((1, 4), np.nan), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            recall.update(7, proposals, empty)
    for counts in ((10, 1), (0, 3), ()):
        with pytest.raises(ValueError, match="give whole numbers"):
            ProposalRecall(NAMES, counts)


def test_parts_merge_to_the_whole():
    truths, results = problem(2)
    for make, read in (
        (lambda: ErrorTypes(NAMES, PETS), lambda a: a.table()),
        (lambda: DetectionConfusion(5), lambda a: a.matrix),
    ):
        whole, first, second = make(), make(), make()
        for image in results:
            whole.update(image, results[image], truths[image])
            (first if image % 3 else second).update(image, results[image], truths[image])
        second.update(1, results[2], truths[2])  # replaced by the other part's
        second.merge(pickle.loads(pickle.dumps(first)))
        np.testing.assert_array_equal(read(second), read(whole))
    whole, first, second = (ProposalRecall(NAMES) for _ in range(3))
    for image in results:
        whole.update(image, results[image]["boxes"], truths[image])
        (first if image % 3 else second).update(image, results[image]["boxes"], truths[image])
    first.merge(second)
    assert first.compute() == pytest.approx(whole.compute(), nan_ok=True, abs=0, rel=0)
