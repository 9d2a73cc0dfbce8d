import numpy as np
import pytest

from jaxvision.data.object_crop import ObjectCrop, objects
from jaxvision.data.transforms import build


def picture(with_boxes=True):
    """Two rectangles, one at the border, and an ignored strip; each pixel of the image says where it was."""
    semantic = np.zeros((40, 60), np.int32)
    semantic[10:20, 30:50] = 2
    semantic[30:40, 0:6] = 3
    semantic[:, 58:] = 255
    y, x = np.mgrid[:40, :60]
    example = {"image": np.stack([y, x, 0 * x], -1).astype(np.uint8), "semantic": semantic, "image_id": 7}
    if with_boxes:
        example |= {"boxes": np.array([[30, 10, 50, 20], [0, 30, 6, 40]], np.float32), "classes": np.array([2, 3])}
    return example


@pytest.mark.parametrize("with_boxes", [True, False])
def test_a_square_of_the_objects_longer_side_with_its_class_alone(with_boxes):
    example, seen = picture(with_boxes), set()
    for seed in range(8):
        found = ObjectCrop(side=24, context=1.2)(example, np.random.default_rng(seed))
        assert found["image"].shape == (24, 24, 3) and found["semantic"].shape == (24, 24)
        [label] = set(np.unique(found["semantic"])) - {0, 255}
        seen.add(label)
        if label == 2:  # 24 pixels around (40, 15): nothing is scaled
            np.testing.assert_array_equal(found["image"][..., :2], example["image"][3:27, 28:52, :2])
            np.testing.assert_array_equal(found["semantic"], example["semantic"][3:27, 28:52])
        else:  # 12 pixels around (3, 35), beyond the picture on two sides, each twice as large
            wanted = np.full((12, 12), 255)
            wanted[:11, 3:] = example["semantic"][29:40, 0:9]
            np.testing.assert_array_equal(found["semantic"], wanted.repeat(2, 0).repeat(2, 1))
    assert seen == {2, 3}


def test_other_classes_stay_where_they_are_to_be_learnt_too():
    example = picture()
    example["semantic"][21:24, 30:50] = 1
    for alone in (True, False):
        crops = [ObjectCrop(24, 1.2, alone)(example, np.random.default_rng(seed)) for seed in range(8)]
        both = [set(np.unique(crop["semantic"])) >= {1, 2} for crop in crops]
        assert any(both) != alone


def test_of_overlapping_labels_the_objects_own_stays_also_where_another_lies_above():
    example = picture()
    labels = example["semantic"][..., None] == np.arange(4)
    labels[14:18, 28:60, 3] = True  # reaches under the object that is cut out, and into what is ignored
    example["semantic_labels"] = labels
    for seed in range(8):
        found = ObjectCrop(side=24, context=1.2)(example, np.random.default_rng(seed))
        own, counted = found["semantic"].max(initial=0, where=found["semantic"] < 255), found["semantic"] != 255
        shown = found["semantic_labels"]
        assert shown.shape == (24, 24, 4) and not shown[..., [k for k in (1, 2, 3) if k != own]].any()
        np.testing.assert_array_equal(shown[..., 0], counted & ~shown[..., own])
        if own == 2:
            np.testing.assert_array_equal(shown[..., 2], labels[3:27, 28:52, 2])
        whole = ObjectCrop(24, 1.2, alone=False)(example, np.random.default_rng(seed))["semantic_labels"]
        np.testing.assert_array_equal(shown[..., own], whole[..., own])
        assert own == 3 or (whole[..., 2] & whole[..., 3]).any()


def test_regions_are_connected_and_ignored_pixels_are_none():
    boxes, classes = objects(picture(False))
    np.testing.assert_array_equal(boxes, [[30, 10, 50, 20], [0, 30, 6, 40]])
    assert classes.tolist() == [2, 3]


def test_jittered_boxes_still_overlap_by_half():
    example, places = picture(), set()
    for seed in range(40):
        found = ObjectCrop(side=64, context=1.0, alone=False, jitter=0.3)(example, np.random.default_rng(seed))
        label = 2 if (found["semantic"] == 2).any() else 3
        assert (found["semantic"] == label).mean() > 0.15
        places.add(tuple(found["image"][32, 32, :2]))
    assert len(places) > 20


def test_an_image_without_objects_is_one_square():
    example = {**picture(False), "semantic": np.zeros((40, 60), np.int32)}
    found = ObjectCrop(side=60)(example, np.random.default_rng(0))
    assert (found["semantic"][10:50] == 0).all() and (found["semantic"][:10] == 255).all()
    np.testing.assert_array_equal(found["image"][10:50], example["image"])


def test_it_comes_before_the_crop_and_bad_arguments_are_errors():
    names = [type(t).__name__ for t in build({"crop": dict(height=24, width=24), "object_crop": {}})]
    assert names == ["ObjectCrop", "Crop"]
    with pytest.raises(ValueError, match="context > 0"):
        build({"object_crop": dict(context=0)})
    with pytest.raises(ValueError, match="no semantic maps"):
        ObjectCrop()({"image": np.zeros((4, 4, 3), np.uint8)}, np.random.default_rng(0))
