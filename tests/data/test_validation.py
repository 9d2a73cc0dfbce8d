import numpy as np
import pytest

from jaxvision.data.validation import ExampleError, validate


def good(**changes):
    return {
        "image": np.zeros((20, 30, 3), np.uint8),
        "image_id": 7,
        "file": "street.png",
        "boxes": np.array([[1, 2, 10, 12], [0, 0, 30, 20]], np.float32),
        "classes": np.array([1, 3]),
        "crowd": np.array([False, True]),
        "area": np.array([90.0, 600.0]),
        "masks": np.ones((2, 20, 30), np.uint8),
        "keypoints": np.zeros((2, 5, 3)),
        "semantic": np.full((20, 30), 255),
        "label": 2,
        "annotation_ids": np.array([41, 42]),
    } | changes


def test_a_good_example_passes_with_canonical_dtypes():
    example = good(boxes=[[1, 2, 10, 12], [0, 0, 30, 20]], masks=np.ones((2, 20, 30), bool))
    checked = validate(example, 4)
    expected = {"boxes": np.float32, "classes": np.int32, "crowd": bool, "area": np.float32, "masks": np.uint8}
    expected |= {"keypoints": np.float32, "semantic": np.int32, "image": np.uint8}
    assert {name: checked[name].dtype for name in expected} == {n: np.dtype(d) for n, d in expected.items()}
    assert checked.keys() == example.keys() and isinstance(example["boxes"], list)


@pytest.mark.parametrize("empty", [np.zeros((0, 4)), np.zeros(0), []])
def test_no_objects_are_fine(empty):
    example = {"image": np.zeros((4, 5, 3), np.uint8), "boxes": empty, "classes": np.zeros(0, np.int64)}
    assert validate(example | {"masks": np.zeros((0, 4, 5))}, 2)["boxes"].shape == (0, 4)
    assert validate({"image": example["image"], "boxes": empty, "classes": []}, 2)["classes"].shape == (0,)


def test_up_to_a_pixel_outside_is_clipped():
    boxes = np.array([[-0.75, 2, 10, 21], [29.5, 1, 31, 20]])
    assert validate(good(boxes=boxes), 4)["boxes"].tolist() == [[0, 2, 10, 20], [29.5, 1, 30, 20]]


def two(box):
    return np.array([[1, 2, 10, 12], box], np.float64)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"boxes": two([1, np.nan, 3, 4])}, r"row 1 \(annotation 42\): box .*NaN"),
        ({"boxes": two([1, 1, np.inf, 4])}, "infinity"),
        ({"boxes": two([5, 5, 5, 9])}, r"row 1 .*\[5.0, 5.0, 5.0, 9.0\] has no width or height"),
        ({"boxes": two([5, 9, 8, 5])}, "x1 < x2"),
        ({"boxes": two([-1.5, 0, 8, 5])}, "outside the image of height 20 and width 30"),
        ({"boxes": two([0, 0, 8, 21.5])}, "outside"),
        ({"boxes": two([30.25, 0, 30.5, 5])}, "nothing once clipped"),
        ({"boxes": np.array([1, 2, 3, 4])}, r"boxes have shape \(4,\)"),
        ({"boxes": np.zeros((2, 5))}, r"boxes have shape \(2, 5\)"),
        ({"boxes": np.array([["a"] * 4] * 2)}, "boxes is of dtype"),
        ({"classes": np.array([1, 0])}, r"row 1 \(annotation 42\): label 0 is background"),
        ({"classes": np.array([-1, 1])}, "class -1 with 4 classes"),
        ({"classes": np.array([1, 4])}, "class 4 with 4 classes"),
        ({"classes": np.array([1.0, 2.0])}, "whole numbers"),
        ({"classes": np.array([1, 2, 3])}, "3 classes for 2 boxes"),
        ({"classes": np.array([1])}, "1 classes for 2 boxes"),
        ({"classes": np.ones((2, 1), int)}, "classes have shape"),
        ({"crowd": np.zeros(3, bool)}, "3 crowd for 2 boxes"),
        ({"area": np.array([1, np.nan])}, "area"),
        ({"masks": np.ones((2, 30, 20), np.uint8)}, r"masks have shape \(2, 30, 20\) in an image of 20 x 30"),
        ({"masks": np.ones((1, 20, 30), np.uint8)}, "1 masks for 2 boxes"),
        ({"masks": np.full((2, 20, 30), 255, np.uint8)}, "masks hold values from 255 to 255"),
        ({"masks": np.full((2, 20, 30), 0.5)}, "masks is of dtype float64"),
        ({"image": np.full((20, 30, 3), 255.0)}, "float image reaches 255; divide by 255"),
        ({"image": np.full((20, 30, 3), np.nan)}, "image holds NaN"),
        ({"image": np.zeros((20, 30, 4), np.uint8)}, "expected 3 channels, got 4"),
        ({"image": np.zeros((20, 30), np.uint8)}, r"image has shape \(20, 30\)"),
        ({"image": np.zeros((0, 0, 3), np.uint8)}, "image is empty, 0 x 0"),
        ({"image": np.zeros((20, 30, 3), np.int32)}, "image is int32"),
        ({"image": [[0]]}, "image is a list"),
        ({"keypoints": np.zeros((2, 5, 2))}, "keypoints have shape"),
        ({"keypoints": np.zeros((3, 5, 3))}, "3 keypoints for 2 boxes"),
        ({"keypoints": np.full((2, 5, 3), np.nan)}, "keypoints hold NaN"),
        ({"keypoints": np.full((2, 5, 3), 3.0)}, "visibility"),
        ({"semantic": np.zeros((30, 20), int)}, "semantic has shape"),
        ({"semantic": np.zeros((20, 30))}, "semantic is of dtype"),
        ({"semantic": np.full((20, 30), 4)}, "semantic is 4 at row 0, column 0; classes are 0..3 and 255 is ignored"),
        ({"semantic": np.full((20, 30), -1)}, "semantic is -1"),
        ({"label": 4}, "label is 4"),
        ({"label": -1}, "label is -1"),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    with pytest.raises(ExampleError, match=message) as error:
        validate(good(**changes), 4)
    assert str(error.value).startswith("image 7 (street.png): ") and "; " in str(error.value)


def test_objects_need_classes():
    example = good()
    del example["classes"]
    with pytest.raises(ExampleError, match="2 boxes without classes"):
        validate(example, 4)


def test_where_replaces_the_name_and_semantic_has_a_count_of_its_own():
    with pytest.raises(ExampleError, match=r"^train, row 5: semantic is 3"):
        validate(good(semantic=np.full((20, 30), 3)), 4, num_semantic_classes=3, where="train, row 5")
    validate(good(semantic=np.full((20, 30), 8)), 4, num_semantic_classes=9)


def test_float_images_in_range_or_normalised_pass():
    for image in (np.ones((20, 30, 3), np.float32), np.full((20, 30, 3), -2.0), np.linspace(-2, 3, 1800)):
        validate(good(image=image.reshape(20, 30, 3)), 4)


def test_several_labels():
    image = np.zeros((4, 4, 3), np.uint8)
    for labels in (np.array([1, 0, 1]), np.array([True, False, True]), [1, 0, 1]):
        found = validate({"image": image, "labels": labels}, 4, num_labels=3)["labels"]
        assert found.dtype == bool and found.tolist() == [True, False, True]
    for labels in ([1, 0], [1, 0, 2], [[1, 0, 1]], [0.0, 1.0, 0.5]):
        with pytest.raises(ExampleError, match=r"image 5: labels (are \[|is of dtype float64)"):
            validate({"image": image, "labels": labels, "image_id": 5}, 4, num_labels=3)
