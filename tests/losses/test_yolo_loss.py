import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.losses.yolo import cell_owners, to_shares, yolo

GRID, BOXES, KINDS = (3, 4), 2, 3
compute = jax.jit(yolo)
TERMS = ("coordinates", "object", "no_object", "class")


def slow_iou(a, b):
    """Of two boxes cx cy w h."""
    width = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    height = min(a[1] + a[3] / 2, b[1] + b[3] / 2) - max(a[1] - a[3] / 2, b[1] - b[3] / 2)
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def slow_yolo(coordinates, confidences, logits, boxes, classes, valid):
    """One image, cell by cell and box by box, as Darknet's detection layer goes."""
    rows, columns = confidences.shape[:2]
    sums = dict.fromkeys(TERMS, 0.0)
    for i in range(rows):
        for j in range(columns):
            sums["no_object"] += sum(c**2 for c in confidences[i, j])
            kind = None
            for box, label, exists in zip(boxes, classes, valid):
                x, y, w, h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
                at = min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)
                if exists and at == (i, j):
                    kind = label
                    break
            if kind is None:
                continue
            sums["class"] += sum((logits[i, j, k] - (k == kind)) ** 2 for k in range(logits.shape[-1]))
            best, best_iou, best_rmse = None, 0, np.inf
            for n in range(len(confidences[i, j])):
                px, py, root_w, root_h = coordinates[i, j, n]
                predicted = ((j + px) / columns, (i + py) / rows, root_w**2, root_h**2)
                iou = slow_iou(predicted, (x, y, w, h))
                rmse = np.sqrt(np.mean((np.array(predicted) - (x, y, w, h)) ** 2))
                if iou > best_iou or (best_iou == iou == 0 and rmse < best_rmse):
                    best, best_iou, best_rmse = n, iou, rmse
            wanted = (x * columns - j, y * rows - i, np.sqrt(w), np.sqrt(h))
            sums["coordinates"] += sum((p - t) ** 2 for p, t in zip(coordinates[i, j, best], wanted))
            sums["no_object"] -= confidences[i, j, best] ** 2
            sums["object"] += (confidences[i, j, best] - best_iou) ** 2
    return sums


def draw(rng, images=3, objects=4):
    """Predictions near and far, some cells' boxes the same, and objects of which some share a cell."""
    coordinates = rng.uniform(-0.4, 1.4, (images, *GRID, BOXES, 4))
    coordinates[..., 2:] = rng.uniform(-0.8, 0.8, coordinates[..., 2:].shape)
    coordinates[..., 1, :] = np.where(
        rng.random((images, *GRID, 1)) < 0.3, coordinates[..., 0, :], coordinates[..., 1, :]
    )
    # Overlaps nothing that is not there; not of one size, or else rounding would choose between two within an object.
    coordinates[rng.random((images, *GRID)) < 0.3, :, 2:] = np.array([0.01, 0.02])[:, None]
    centres, sides = rng.uniform(0.02, 0.98, (images, objects, 2)), rng.uniform(0.03, 0.5, (images, objects, 2))
    centres[rng.random((images, objects)) < 0.4] = (0.55, 0.45)
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], -1).clip(0, 1)
    found = coordinates, rng.normal(size=(images, *GRID, BOXES)), rng.normal(size=(images, *GRID, KINDS)), boxes
    valid = rng.random((images, objects)) < 0.6
    return (*(a.astype(np.float32) for a in found), rng.integers(0, KINDS, (images, objects)), valid)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_terms_are_those_of_a_slow_loop(seed):
    arrays = draw(np.random.default_rng(seed))
    wanted = [slow_yolo(*(a.astype(np.float64) if a.dtype.kind == "f" else a for a in row)) for row in zip(*arrays)]
    found = compute(*arrays)
    assert set(found) == set(TERMS)
    for name, (total, count) in found.items():
        assert count == 3
        np.testing.assert_allclose(total, sum(row[name] for row in wanted), rtol=2e-4, atol=1e-4, err_msg=name)


def one_cell(boxes, target=(0.4, 0.4, 0.6, 0.6), confidences=(0.3, 0.7)):
    """The terms of a single cell that predicts two boxes, and its confidences' gradients."""
    boxes, target = np.array(boxes, np.float32), np.array([[target]], np.float32)
    rest = np.zeros((1, 1, 1, 1), np.float32), target, np.zeros((1, 1), int), np.ones((1, 1), bool)

    def loss(confidences, coordinates):
        terms = yolo(coordinates, confidences, *rest)
        return terms["object"][0], {name: total for name, (total, _) in terms.items()}

    confidences = np.array(confidences, np.float32).reshape(1, 1, 1, 2)
    gradients, terms = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(confidences, boxes.reshape(1, 1, 1, 2, 4))
    return terms, gradients[0].ravel(), gradients[1]


def test_the_box_of_the_greatest_overlap_answers_and_its_overlap_is_the_target():
    side = np.sqrt(0.2)
    terms, confidences, coordinates = one_cell([[0.6, 0.5, side, side], [0.5, 0.5, side, side]])
    assert terms["object"] == pytest.approx((0.7 - 1) ** 2, abs=1e-5)
    assert terms["no_object"] == pytest.approx(0.3**2, abs=1e-6) and terms["class"] == pytest.approx(1)
    assert confidences[0] == 0 and confidences[1] == pytest.approx(2 * (0.7 - 1), abs=1e-4)
    assert (np.array(coordinates) == 0).all()  # no gradient through the IoU


def test_of_equal_overlaps_the_first_answers():
    box = [0.55, 0.5, -0.5, 0.5]
    terms, confidences, _ = one_cell([box, box])
    assert confidences[0] != 0 and confidences[1] == 0
    assert terms["coordinates"] == pytest.approx(
        0.05**2 + (0.5 + np.sqrt(0.2)) ** 2 + (0.5 - np.sqrt(0.2)) ** 2, rel=1e-4
    )


def test_without_overlap_the_nearest_answers():
    for near in (0, 1):
        boxes = [[0.05, 0.5, 0.1, 0.1]] * 2
        boxes[near] = [0.3, 0.5, 0.2, 0.2]
        terms, confidences, _ = one_cell(boxes)
        assert confidences[near] != 0 and confidences[1 - near] == 0
        assert terms["object"] == pytest.approx((0.3, 0.7)[near] ** 2, rel=1e-5)


def test_a_cell_has_the_first_of_its_objects_and_edges_belong_to_the_last():
    boxes = np.array([[0, 0, 0.2, 0.2], [0.1, 0.1, 0.15, 0.15], [1, 1, 1, 1], [0.5, 0.5, 0.5, 0.5]], np.float32)
    owners = cell_owners(boxes, np.array([False, True, True, True]), (2, 2))
    assert owners.tolist() == [1, 4, 4, 2]
    assert cell_owners(boxes, np.ones(4, bool), (2, 2)).tolist() == [0, 4, 4, 2]
    assert cell_owners(boxes, np.zeros(4, bool), (2, 2)).tolist() == [4] * 4


def test_cells_are_counted_in_rows():
    found = np.array(to_shares(np.tile(np.float32([0.5, 0.25, -0.5, 0.1]), (2, 4, 1, 1))))
    np.testing.assert_allclose(found[1, 3, 0], [3.5 / 4, 1.25 / 2, 0.25, 0.01], rtol=1e-6)


def test_images_that_are_not_real_count_nowhere():
    arrays = draw(np.random.default_rng(0))
    found = compute(*arrays, np.array([True, False, True]))
    wanted = [compute(*(a[i : i + 1] for a in arrays)) for i in (0, 2)]
    for name, (total, count) in found.items():
        assert count == 2
        np.testing.assert_allclose(total, sum(row[name][0] for row in wanted), rtol=1e-5)
