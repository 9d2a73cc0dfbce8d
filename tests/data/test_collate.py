import numpy as np
import pytest

from jaxvision.batch import FIELDS, HOST
from jaxvision.data import collate

FIELDS_OF_DETECTION = ("boxes", "classes", "valid", "masks", "mask_boxes")


def make_example(count, **fields):
    rng = np.random.default_rng(count)
    corner = rng.integers(0, 8, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 9, (count, 2))], 1).astype(np.float32)
    return {
        "image": rng.integers(0, 256, (16, 20, 3), np.uint8),
        "image_size": np.array([16, 20], np.int32),
        "original_size": np.array([32, 40], np.int32),
        "image_id": 2**40 + count,
        "boxes": boxes,
        "classes": np.arange(1, count + 1, dtype=np.int32),
        "crowd": np.zeros(count, bool),
        "masks": rng.integers(0, 2, (count, 16, 20), np.uint8),
        "semantic": rng.integers(0, 5, (16, 20)),
        **fields,
    }


@pytest.mark.parametrize("box", [[3, 3, 3, 9], [3, 3, 9, 3.0005]])
def test_an_object_that_has_no_extent_on_the_canvas_is_not_learnt_from(box):
    example = make_example(3)
    example["boxes"][0] = box
    row = collate.row(example, FIELDS_OF_DETECTION, max_boxes=4, mask_size=8)
    assert row["lost_boxes"] == 1 and row["overflow"] == 0 and row["valid"].tolist() == [True, True, False, False]
    np.testing.assert_array_equal(row["classes"], [2, 3, 1, 0])
    crowd = collate.row({**example, "crowd": np.array([True, False, False])}, FIELDS_OF_DETECTION, 4, 8)
    assert crowd["lost_boxes"] == 0 and crowd["valid"].tolist() == [True, True, False, False]


def test_a_frame_by_hand():
    mask = np.arange(1, 26).reshape(5, 5) % 2
    np.testing.assert_array_equal(mask[:2], [[1, 0, 1, 0, 1], [0, 1, 0, 1, 0]])
    # Two cells over three pixels: centres at 1 + 0.75 and 1 + 2.25, that is pixels 1 and 3.
    np.testing.assert_array_equal(collate.frame_mask(mask, np.array([1, 1, 4, 4]), 2), [[1, 1], [1, 1]])
    np.testing.assert_array_equal(collate.frame_mask(mask, np.array([0, 1, 2, 3]), 2), [[0, 1], [1, 0]])
    # Larger than the picture: what is outside is 0.
    framed = collate.frame_mask(np.ones((5, 5), int), np.array([-2, 0, 2, 10]), 4)
    np.testing.assert_array_equal(framed, [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_frames_are_read_at_the_centres_of_their_cells():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.integers(0, 2, (13, 17), np.uint8)
        x1, y1 = rng.uniform(-3, 10, 2)
        box = np.array([x1, y1, x1 + rng.uniform(1, 12), y1 + rng.uniform(1, 12)])
        framed = collate.frame_mask(mask, box, 7)
        for row in range(7):
            for column in range(7):
                y = int(np.floor(box[1] + (row + 0.5) / 7 * (box[3] - box[1])))
                x = int(np.floor(box[0] + (column + 0.5) / 7 * (box[2] - box[0])))
                wanted = mask[y, x] if 0 <= y < 13 and 0 <= x < 17 else 0
                assert framed[row, column] == wanted


def test_a_row_is_padded_and_of_the_documented_types():
    example = make_example(2)
    row = collate.row(example, (*FIELDS_OF_DETECTION, "semantic"), max_boxes=4, mask_size=8)
    np.testing.assert_array_equal(row["valid"], [True, True, False, False])
    np.testing.assert_array_equal(row["boxes"][:2], example["boxes"])
    np.testing.assert_array_equal(row["classes"], [1, 2, 0, 0])
    assert not row["boxes"][2:].any() and not row["masks"][2:].any()
    assert row["masks"].shape == (4, 8, 8)
    np.testing.assert_array_equal(row["mask_boxes"], row["boxes"])
    np.testing.assert_array_equal(row["masks"][1], collate.frame_mask(example["masks"][1], example["boxes"][1], 8))
    known = {**FIELDS, **HOST}
    batch = collate.stack([row, row])
    for name, value in batch.items():
        assert value.dtype == known[name].dtype and len(value) == 2, name
    assert batch["image_id"].tolist() == [2**40 + 2] * 2
    assert batch["overflow"].tolist() == [0, 0]


def test_only_the_named_fields_are_in_a_row():
    row = collate.row(make_example(2), ("semantic",), max_boxes=4)
    assert set(row) == {"image", "image_size", "real", "semantic", *HOST}


def test_crowd_and_difficult_stay_but_are_not_valid():
    aside = make_example(
        4, crowd=np.array([True, False, False, False]), difficult=np.array([False, False, True, False])
    )
    row = collate.row(aside, ("boxes", "classes", "valid", "crowd"), max_boxes=5)
    np.testing.assert_array_equal(row["classes"], [2, 4, 1, 3, 0])
    np.testing.assert_array_equal(row["valid"], [True, True, False, False, False])
    np.testing.assert_array_equal(row["crowd"], [False, False, True, False, False])
    assert row["overflow"] == 0


def test_what_exceeds_max_boxes_is_counted_and_crowds_go_first():
    example = make_example(5, crowd=np.array([True, False, False, True, False]))
    row = collate.row(example, ("boxes", "classes", "valid"), max_boxes=3)
    np.testing.assert_array_equal(row["classes"], [2, 3, 5])
    assert row["overflow"] == 0  # two crowds went, nothing to learn from
    row = collate.row(example, ("boxes", "classes", "valid"), max_boxes=2)
    assert row["overflow"] == 1


def test_no_objects():
    row = collate.row(make_example(0), FIELDS_OF_DETECTION, max_boxes=3, mask_size=8)
    assert not row["valid"].any() and row["masks"].shape == (3, 8, 8) and row["boxes"].shape == (3, 4)


def test_a_missing_field_is_an_error():
    with pytest.raises(KeyError, match="proposals"):
        collate.row(make_example(1), ("proposals",), max_boxes=3)
