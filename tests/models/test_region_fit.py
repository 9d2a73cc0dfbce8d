"""What is fitted on the host: who is a positive and a negative, and scikit-learn's and numpy's own answers."""

import jax
import numpy as np
import pytest
from sklearn.svm import LinearSVC
from small import CLASS_NAMES, PROPOSALS, SIDE, create, empty, example

from jaxvision.data.loader import Batches
from jaxvision.models.detection import region_fit
from jaxvision.models.detection.region_fit import MinedSVM, fit_boxes, fit_ridge, fit_svm, fit_svms
from jaxvision.ops.boxes import encode


def slow_iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def some_boxes(rng, count, reach=30):
    corners = rng.uniform(0, 30, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(8, reach, (count, 2))], 1)


def test_svm_negatives_against_a_slow_loop():
    """Below 0.3 with every object of the class; the softmax's rule, 0.5 and of any class, is in test_rcnn.py."""
    rng = np.random.default_rng(0)
    found = 0
    for number in range(8):
        proposals, boxes = some_boxes(rng, 20), some_boxes(rng, number % 4)
        classes = rng.integers(1, 4, len(boxes))
        negatives = region_fit.svm_negatives(proposals, boxes, classes, 4)
        for p, proposal in enumerate(proposals):
            for label in (1, 2, 3):
                own = [box for box, kind in zip(boxes, classes) if kind == label]
                assert negatives[p, label - 1] == all(slow_iou(proposal, box) < 0.3 for box in own)
                found += not negatives[p, label - 1]
    assert found > 20


@pytest.mark.parametrize("above", [0.5, 0.6])
def test_pairs_for_the_box_regression_against_a_slow_loop(above):
    rng = np.random.default_rng(1)
    count = 0
    for number in range(12):
        boxes = some_boxes(rng, number % 4)
        near = np.repeat(boxes, 4, 0) + rng.uniform(-4, 4, (4 * len(boxes), 4))
        proposals = np.concatenate([some_boxes(rng, 5), near])
        rows, owners = region_fit.regression_pairs(proposals, boxes, above)
        expected = []
        for p, proposal in enumerate(proposals):
            overlaps = [slow_iou(proposal, box) for box in boxes]
            if overlaps and max(overlaps) > above:
                expected.append((p, int(np.argmax(overlaps))))
        assert list(zip(rows.tolist(), owners.tolist())) == expected
        count += len(expected)
    assert count > 20


def test_duplicates_are_those_of_a_row_that_was_kept():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 7], [20, 0, 30, 10]], float)
    # the second goes with the first (0.9); the third overlaps the second by 0.78, the first by just 0.7
    assert region_fit.without_duplicates(boxes, 0.7).tolist() == [0, 2, 3]
    assert region_fit.without_duplicates(boxes[:0], 0.7).tolist() == []


def test_an_svm_is_liblinears_of_the_authors_settings():
    rng = np.random.default_rng(2)
    positives, negatives = rng.normal(1, 3, (40, 6)), rng.normal(-1, 3, (150, 6))
    weights, intercept = fit_svm(positives, negatives)
    # hinge loss, C 0.001 with positives counted twice, and a feature of 10 behind the intercept that is penalised too
    machine = LinearSVC(
        C=1e-3, loss="hinge", dual=True, fit_intercept=False, random_state=0, max_iter=100_000, tol=1e-8
    )
    features = np.concatenate([positives, negatives])
    features = np.concatenate([features, np.full((len(features), 1), 10.0)], 1)
    labels = np.repeat([1, -1], (40, 150))
    machine.fit(features, labels, sample_weight=np.where(labels > 0, 2.0, 1.0))
    margins = features[:, :6] @ weights + intercept
    np.testing.assert_allclose(margins, machine.decision_function(features), atol=2e-3)

    def objective(w, b):
        hinge = np.maximum(0, 1 - labels * (features[:, :6] @ w + b)) * np.where(labels > 0, 2, 1)
        return (w @ w + (b / 10) ** 2) / 2 + 1e-3 * hinge.sum()

    best = objective(weights, intercept)
    for _ in range(50):
        assert best <= objective(weights + rng.normal(0, 0.01, 6), intercept + rng.normal(0, 0.05)) + 1e-6


def test_ridge_is_the_closed_form():
    rng = np.random.default_rng(3)
    for rows, columns in ((50, 7), (5, 12)):  # more features than rows go the dual way
        features, targets = rng.normal(size=(rows, columns)) * 20, rng.normal(size=(rows, 4)) + 1
        weights, intercepts = fit_ridge(features, targets, 1000.0)
        with_one = np.concatenate([features, np.ones((rows, 1))], 1)
        closed = np.linalg.solve(
            with_one.T @ with_one + 1000 * np.eye(columns + 1), with_one.T @ (targets - targets.mean(0))
        )
        np.testing.assert_allclose(weights, closed[:-1], atol=1e-10)
        np.testing.assert_allclose(intercepts, closed[-1] + targets.mean(0), atol=1e-10)


def test_hard_negatives_are_kept_and_easy_ones_let_go():
    rng = np.random.default_rng(4)
    positives = rng.normal((60, 0), 5, (400, 2)).astype(np.float32)
    machine = MinedSVM(positives, every=50)
    assert machine.select(np.zeros((4, 2))).tolist() == [0, 1, 2, 3]  # before the first fit
    machine.fit()
    assert machine.weights is None  # nothing to separate from yet
    easy, near = rng.normal((-400, 0), 5, (49, 2)).astype(np.float32), np.array([[20, 0], [15, 10]], np.float32)
    machine.add(easy)
    assert machine.weights is None
    machine.add(near)  # 51 have come: fitted
    weights, intercept = fit_svm(positives, np.concatenate([easy, near]))
    np.testing.assert_array_equal(machine.weights, weights)
    margins = np.concatenate([easy, near]) @ weights + intercept
    assert (margins[:49] < -1.2).all() and (margins[49:] > -1.2).all()
    np.testing.assert_array_equal(machine.kept, near)
    candidates = np.array([[-500, 0], [30, 0], [50, 3]], np.float32)
    assert machine.select(candidates).tolist() == [1, 2]
    machine.add(candidates[1:])
    assert machine.count == 2 and np.array_equal(machine.weights, weights)  # waits for more
    machine.fit()
    np.testing.assert_array_equal(machine.weights, fit_svm(positives, np.concatenate([near, candidates[1:]]))[0])


class Pictures:
    """A few of the pictures that every architecture learns, as a source with proposals."""

    name, class_names, keypoint_names, flip_pairs, sigmas = "pictures", CLASS_NAMES, (), (), None
    max_proposals = PROPOSALS

    def __init__(self, numbers, blank=()):
        self.numbers, self.blank, self.sizes = numbers, blank, np.full((len(numbers), 2), SIDE)

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, i):
        return (empty if i in self.blank else example)(self.numbers[i])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    architecture = create("rcnn", classifier="svm")
    source = Pictures(range(7), blank=(3,))
    batches = Batches(source, batch_size=2, fields=("boxes", "classes", "valid"), canvases=[(SIDE, SIDE)], max_boxes=3)
    variables = jax.device_get(
        architecture.init(jax.random.key(0), {k: v for k, v in batches[0].items() if k != "original_size"})
    )
    svms = fit_svms(architecture, variables, batches)
    both = fit_boxes(architecture, svms, batches, str(tmp_path_factory.mktemp("boxes")))
    return architecture, source, batches, variables, svms, both


def described(architecture, variables, source, regions):
    """(pooled, fc7) features of regions of each picture, one picture at a time."""
    apply = jax.jit(lambda v, b, r: architecture.model.apply(v, b, r, method="features"))
    for i, boxes in enumerate(regions):
        padded = np.zeros((1, 32, 4), np.float32)
        padded[0, : len(boxes)] = boxes
        batch = {"image": source[i]["image"][None], "image_size": np.array([[SIDE, SIDE]], np.int32)}
        pooled, features = apply(variables, batch, padded)
        yield np.array(pooled)[0, : len(boxes)], np.array(features)[0, : len(boxes)]


def test_the_svms_of_a_network_are_scikit_learns(fitted):
    """Few negatives, so that they are all in the one fit: the margins that the network gives are the machine's own."""
    architecture, source, batches, variables, svms, _ = fitted
    examples = [source[i] for i in range(len(source))]
    proposals = [e["proposals"] for e in examples]
    seen = [f for _, f in described(architecture, variables, source, proposals)]
    scale = 20 / np.mean(np.linalg.norm(np.concatenate(seen), axis=1))
    objects = [f for _, f in described(architecture, variables, source, [e["boxes"] for e in examples])]
    for label in (1, 2, 3):
        positives = np.concatenate([f[e["classes"] == label] for e, f in zip(examples, objects)]) * scale
        negatives = []
        for e, features in zip(examples, seen):
            own = e["boxes"][e["classes"] == label]
            negatives += [f for f, p in zip(features, e["proposals"]) if all(slow_iou(p, box) < 0.3 for box in own)]
        machine = LinearSVC(
            C=1e-3, loss="hinge", dual=True, intercept_scaling=10, class_weight={1: 2}, random_state=0, max_iter=20_000
        )
        machine.fit(
            np.concatenate([positives, np.stack(negatives) * scale]),
            np.repeat([1, -1], (len(positives), len(negatives))),
        )
        kernel, bias = svms["params"]["svm"]["kernel"][:, label - 1], svms["params"]["svm"]["bias"][label - 1]
        margins = np.concatenate(seen) @ kernel + bias
        np.testing.assert_allclose(margins, machine.decision_function(np.concatenate(seen) * scale), atol=1e-3)
    batch = batches[0]
    outputs = jax.jit(architecture.model.apply)(svms, {k: v for k, v in batch.items() if k != "original_size"})
    expected = seen[0] @ svms["params"]["svm"]["kernel"] + svms["params"]["svm"]["bias"]
    valid = batch["proposals_valid"][0]
    np.testing.assert_allclose(np.array(outputs["logits"])[0, valid, 1:], expected, atol=1e-3)
    assert not np.array(outputs["logits"])[..., 0].any()


def test_the_boxes_of_a_network_are_the_closed_form(fitted):
    architecture, source, _, variables, _, both = fitted
    examples = [source[i] for i in range(len(source))]
    proposals = [e["proposals"] for e in examples]
    pooled = [p for p, _ in described(architecture, variables, source, proposals)]
    scale = 20 / np.mean(np.linalg.norm(np.concatenate(pooled), axis=1))
    kernel, bias = both["params"]["box"]["kernel"], both["params"]["box"]["bias"]
    for label in (1, 2, 3):
        rows, targets = [], []
        for e, features in zip(examples, pooled):
            for p, f in zip(e["proposals"], features):
                overlaps = [slow_iou(p, box) for box in e["boxes"]]
                if overlaps and max(overlaps) > 0.6 and e["classes"][np.argmax(overlaps)] == label:
                    rows.append(np.append(f * scale, 1.0))
                    targets.append(np.array(encode(e["boxes"][np.argmax(overlaps)], p)))
        rows, targets = np.array(rows, np.float64), np.array(targets, np.float64)
        assert len(rows) > 2
        mean = targets.mean(0)
        closed = np.linalg.solve(rows.T @ rows + 1000 * np.eye(rows.shape[1]), rows.T @ (targets - mean))
        own = slice(4 * (label - 1), 4 * label)
        np.testing.assert_allclose(kernel[:, own], closed[:-1] * scale, atol=1e-5)
        np.testing.assert_allclose(bias[own], closed[-1] + mean, atol=1e-5)


def test_all_else_stays(fitted):
    *_, variables, svms, both = fitted
    for layer, old in variables["params"].items():
        for new, changed in ((svms, {"svm"}), (both, {"svm", "box"})):
            same = [np.array_equal(a, b) for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new["params"][layer]))]
            assert not any(same) if layer in changed else all(same)


def test_a_class_without_objects_is_named():
    architecture = create("rcnn")
    batches = Batches(
        Pictures([0]), batch_size=1, fields=("boxes", "classes", "valid"), canvases=[(SIDE, SIDE)], max_boxes=3
    )
    batch = {k: v for k, v in batches[0].items() if k != "original_size"}
    variables = architecture.init(jax.random.key(0), batch)
    with pytest.raises(ValueError, match="'pictures' that is learnt from has an object of large:"):
        fit_svms(architecture, variables, batches)
