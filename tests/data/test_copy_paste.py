import numpy as np
import pytest
from test_transforms import Fixed, assert_same, scene

from jaxvision.data.copy_paste import CopyPaste
from jaxvision.data.geometry import tight_boxes


def rectangle(height, width, *boxes, value=0, **fields):
    """A picture of one colour whose objects are those boxes; class n + 1 + value."""
    masks = np.zeros((len(boxes), height, width), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = 1
    classes = np.arange(len(boxes), dtype=np.int32) + 1 + value
    semantic = (masks * classes[:, None, None]).max(0, initial=0).astype(np.int32)
    return {
        "image": np.full((height, width, 3), value, np.uint8),
        "boxes": tight_boxes(masks),
        "classes": classes,
        "crowd": np.zeros(len(boxes), bool),
        "area": masks.sum((1, 2)).astype(np.float32),
        "masks": masks,
        "semantic": semantic,
        "semantic_labels": semantic[..., None] == np.arange(12),
        "captions": [f"object {c}" for c in classes],
        **fields,
    }


def test_by_hand():
    """The other picture has half the size: it is doubled, and its one object hides the right half of the first."""
    joints = np.array([[[1, 1, 2], [3.5, 1, 2], [3.5, 1, 1]], [[7, 7, 2]] * 3], np.float32)
    example = rectangle(8, 8, (0, 0, 4, 4), (6, 6, 8, 8), keypoints=joints)
    other = rectangle(4, 4, (1, 0, 2, 2), value=10, keypoints=np.float32(joints[:1] * [0.5, 0.5, 1]))
    # Whether at all, each object's chance, how many are wanted, and the place.
    new = CopyPaste(1.0)(example, Fixed(0.3, np.array([0.2]), 0.5, 0, 0), other)
    assert new["classes"].tolist() == [1, 2, 11] and new["captions"] == ["object 1", "object 2", "object 11"]
    assert new["boxes"].tolist() == [[0, 0, 2, 4], [6, 6, 8, 8], [2, 0, 4, 4]]
    assert new["area"].tolist() == [8, 4, 8]
    assert new["keypoints"][0].tolist() == [[1, 1, 2], [3.5, 1, 1], [3.5, 1, 1]]
    assert new["keypoints"][2].tolist() == joints[0].tolist()
    assert (new["image"][:4, 2:4] == 10).all() and new["image"].sum() == 10 * 8 * 3
    np.testing.assert_array_equal(new["semantic"] == 11, new["masks"][2] == 1)
    np.testing.assert_array_equal(new["semantic_labels"], new["semantic"][..., None] == np.arange(12))
    assert not (new["masks"].sum(0) > 1).any()
    assert_same(example, rectangle(8, 8, (0, 0, 4, 4), (6, 6, 8, 8), keypoints=joints))


def test_what_is_hidden_wholly_is_gone_and_crowds_stay_at_home():
    example = rectangle(6, 6, (1, 1, 3, 3), (4, 4, 6, 6))
    other = rectangle(6, 6, (0, 0, 4, 4), (4, 4, 6, 6), value=5, crowd=np.array([False, True]))
    new = CopyPaste(1.0)(example, Fixed(0.0, np.zeros(2), 1.0, 0, 0), other)
    assert new["classes"].tolist() == [2, 6] and new["crowd"].tolist() == [False, False]
    assert new["boxes"].tolist() == [[4, 4, 6, 6], [0, 0, 4, 4]]


def test_nothing_chosen_changes_nothing():
    example, other = scene(1), scene(2)
    assert_same(CopyPaste(1.0)(example, Fixed(0.0, np.ones(3), 0.5, 0, 0), other), example)
    assert_same(CopyPaste(0.2)(example, Fixed(0.3), other), example)
    assert_same(CopyPaste(1.0)(example, np.random.default_rng(0), scene(2, objects=0)), example)


@pytest.mark.parametrize("seed", range(20))
def test_every_pixel_is_of_one_object_and_boxes_are_those_of_masks(seed):
    rng = np.random.default_rng(seed)
    example, other = rectangle(20, 30, (2, 2, 12, 9), (15, 5, 28, 19)), rectangle(25, 15, (1, 3, 14, 20), value=7)
    new = CopyPaste(1.0)(example, rng, other)
    assert (new["masks"].sum(0) <= 1).all() and new["image"].shape == (20, 30, 3)
    np.testing.assert_allclose(new["boxes"], tight_boxes(new["masks"]), atol=1)
    assert {name: len(new[name]) for name in ("classes", "area", "crowd", "captions")} == dict.fromkeys(
        ("classes", "area", "crowd", "captions"), len(new["boxes"])
    )
    pasted = new["masks"][new["classes"] == 8]
    if len(pasted):  # 25 x 15 fits into 20 x 30 as 20 x 12
        assert (new["image"][pasted[0] == 1] == 7).all() and pasted.sum() < 20 * 12


def test_number_of_pasted_objects_is_spread_evenly():
    rng, example = np.random.default_rng(0), rectangle(30, 30)
    other = rectangle(30, 30, *((i * 10, j * 10, i * 10 + 5, j * 10 + 5) for i in range(3) for j in range(3)))
    counts = np.bincount([len(CopyPaste(1.0)(example, rng, other)["boxes"]) for _ in range(1000)], minlength=10)
    assert counts.min() > 60 and counts.max() < 145


def test_errors():
    with pytest.raises(ValueError, match=r"copy_paste: probability is 2, expected 0..1"):
        CopyPaste(2)
    bare = {"image": np.zeros((4, 4, 3), np.uint8), "boxes": np.zeros((0, 4), np.float32)}
    with pytest.raises(ValueError, match="this source has none, leave it out"):
        CopyPaste()(bare, np.random.default_rng(0), bare)
