import jax
import numpy as np
import pytest
from small import Network, check_predictions_are_blind, create, shapes

from jaxvision.models.detection.regression_detector import assign, losses, predict

BOXES = np.array([[30, 0, 40, 60], [5, 50, 20, 60], [0, 0, 0, 0], [12, 20, 60, 64]], np.float32)
VALID = np.array([True, True, False, True])


@pytest.mark.parametrize(("order", "rows"), [("left", [1, 3, 0]), ("top", [0, 3, 1]), ("largest", [3, 0, 1])])
def test_objects_get_slots_in_their_order(order, rows):
    for slots in (2, 3, 6):
        found, filled = assign(BOXES, VALID, slots, order)
        count = min(slots, 3)
        assert found.shape == filled.shape == (slots,)
        assert found[:count].tolist() == rows[:count] and filled.tolist() == [True] * count + [False] * (slots - count)


def test_one_more_object_at_the_left_moves_all_others():
    """Why the idea fails: no other object moved, and all of them have another slot."""
    before, _ = assign(BOXES, VALID, 4, "left")
    after, _ = assign(np.concatenate([BOXES, [[1, 1, 4, 4]]]).astype(np.float32), np.append(VALID, True), 4, "left")
    assert after.tolist() == [4, *before[:3].tolist()]


def problem():
    rng = np.random.default_rng(0)
    outputs = {"logits": rng.normal(0, 1, (2, 3 * (4 + 4))).astype(np.float32)}
    batch = {
        "image": np.zeros((2, 64, 80, 3), np.uint8),
        "image_size": np.array([[64, 80], [50, 60]], np.int32),
        "boxes": np.stack([BOXES, BOXES]),
        "classes": np.array([[1, 2, 0, 3], [3, 2, 0, 1]], np.int32),
        "valid": np.stack([VALID, np.array([True, False, False, False])]),
    }
    return outputs, batch


def test_losses_computed_by_hand():
    outputs, batch = problem()
    found = jax.jit(lambda o, b: losses(o, b, slots=3, order="left"))(outputs, batch)
    numbers = outputs["logits"].reshape(2, 3, 8).astype(np.float64)
    rows = {(0, 0): 1, (0, 1): 3, (0, 2): 0, (1, 0): 0}
    kinds, box = 0.0, 0.0
    for i, slot in np.ndindex(2, 3):
        label = batch["classes"][i, rows[i, slot]] if (i, slot) in rows else 0
        scores = numbers[i, slot, :4]
        kinds += np.log(np.exp(scores).sum()) - scores[label]
        if (i, slot) in rows:
            box += ((numbers[i, slot, 4:] - BOXES[rows[i, slot]] / [80, 64, 80, 64]) ** 2).sum()
    assert (float(found["class"][0]), float(found["class"][1])) == pytest.approx((kinds, 6), rel=1e-5)
    assert (float(found["box"][0]), float(found["box"][1])) == pytest.approx((box, 4), rel=1e-5)


def test_predictions_computed_by_hand():
    outputs, batch = problem()
    found = jax.jit(lambda o, b: predict(o, b, slots=3, score_threshold=0.3))(outputs, batch)
    numbers = outputs["logits"].reshape(2, 3, 8)
    for i in range(2):
        rows = []
        for slot in range(3):
            chances = np.exp(numbers[i, slot, :4]) / np.exp(numbers[i, slot, :4]).sum()
            x1, y1, x2, y2 = numbers[i, slot, 4:] * [80, 64, 80, 64]
            height, width = batch["image_size"][i]
            box = np.clip([x1, y1, max(x1, x2), max(y1, y2)], 0, [width, height, width, height])
            if chances[1:].max() > 0.3:
                rows.append((chances[1:].max(), chances[1:].argmax() + 1, box))
        rows.sort(key=lambda row: -row[0])
        count = found["valid"][i].sum()
        assert 0 < count == len(rows) and found["valid"][i][:count].all()
        np.testing.assert_allclose(found["scores"][i][:count], [row[0] for row in rows], rtol=1e-5)
        assert found["classes"][i][:count].tolist() == [row[1] for row in rows]
        np.testing.assert_allclose(found["boxes"][i][:count], [row[2] for row in rows], atol=1e-4)
        assert (found["boxes"][i][count:] == 0).all()


def test_predictions_do_not_see_the_ground_truth():
    check_predictions_are_blind(Network("regression_detector"))


def test_it_is_vgg16_with_other_outputs():
    """138,357,544 parameters with the 1000 classes of ImageNet; here ten slots of 21 classes and four edges."""
    params = shapes("regression_detector", (224, 224), num_classes=21)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 138_357_544 + (4096 + 1) * (10 * 25 - 1000)


def test_an_unknown_order_is_named():
    with pytest.raises(ValueError, match="order 'right' is not one of left, top, largest"):
        create("regression_detector", order="right")
