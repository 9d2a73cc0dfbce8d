"""Boxes made of maps: where they come to lie, how they are scored and drawn."""

import cv2
import numpy as np
import pytest

from jaxvision import tasks
from jaxvision.metrics.score_maps import component_box, resize_map
from jaxvision.tasks.map_localization import MapLocalizationEvaluator
from jaxvision.tta import TTA

TASK = tasks.get("map_localization")


class Source:
    """Three pictures of two classes; the last without masks, the label's object the second."""

    class_names = ("background", "cat", "dog")
    image_ids = (7, 8, 9)

    def __init__(self, boxes=True):
        self.boxes = boxes

    def __len__(self):
        return 3

    def annotations(self, i):
        example = {"image_id": self.image_ids[i], "label": i % 2}
        if self.boxes:
            example |= {
                "boxes": np.float32([[4, 4, 20, 12], [30, 10, 50, 35]]),
                "classes": np.int32([2 - i % 2, 1 + i % 2]),
            }
            if i < 2:
                masks = np.zeros((2, 40, 60), np.uint8)
                masks[0, 4:12, 4:20] = 1
                masks[1, 10:35, 30:50] = 1
                example["masks"] = masks
        return example


def maps_of(box, label, size=(40, 60), low=0.0):
    maps = np.zeros((*size, 2), np.float32)
    x1, y1, x2, y2 = box
    maps[..., label] = low
    maps[y1:y2, x1:x2, label] = 1
    return maps


def result(label, box, evidence_of=None, low=0.0):
    probabilities = np.where(np.arange(2) == label, 0.8, 0.2)
    maps = maps_of(box, label if evidence_of is None else evidence_of, low=low)
    return {"probabilities": probabilities, "class_maps": maps, "size": np.array([40, 60])}


def prediction(maps, extent):
    return {"probabilities": np.float32([0.9, 0.1]), "class_maps": maps, "map_extent": np.float32(extent)}


def test_a_result_covers_the_image_and_not_the_canvas():
    maps = np.random.default_rng(0).normal(size=(8, 8, 2)).astype(np.float32)
    whole = TASK.result(prediction(maps, (8, 8)), (64, 64), (128, 90))
    np.testing.assert_array_equal(whole["class_maps"], maps)
    np.testing.assert_array_equal(whole["size"], [128, 90])
    part = TASK.result(prediction(maps, (8, 5)), (64, 40), (128, 90))
    np.testing.assert_allclose(part["class_maps"], maps[:, :5], atol=1e-6)
    assert TASK.result(prediction(maps, (0.2, 7.6)), (2, 61), (3, 90))["class_maps"].shape == (1, 8, 2)


@pytest.mark.parametrize("extent", [(16, 16), (12, 16), (16, 9)])
def test_a_bump_is_found_where_it_is(extent):
    """A square of 5 x 3 cells on a canvas of 16 x 16, an image of other sides: its middle stays, its edges to half a cell."""
    maps = np.zeros((16, 16, 2), np.float32)
    maps[4:9, 3:6, 0] = 1
    height, width = 10 * extent[0], 7 * extent[1]
    found = TASK.result(prediction(maps, extent), (8 * extent[0], 8 * extent[1]), (height, width))
    large = resize_map(found["class_maps"][..., 0], (height, width))
    x1, y1, x2, y2 = component_box(large, 0.5)
    np.testing.assert_allclose([x1, x2, y1, y2], [3 * 7, 6 * 7, 4 * 10, 9 * 10], atol=1)
    y, x = np.argwhere(large > 0.5).mean(0) + 0.5
    assert y == pytest.approx(6.5 * 10, abs=0.5) and x == pytest.approx(4.5 * 7, abs=0.5)


def test_scores_by_hand():
    evaluator = MapLocalizationEvaluator(Source())
    evaluator.update(7, result(0, (30, 10, 50, 35)))  # a cat, found where it is
    evaluator.update(8, result(0, (30, 10, 50, 35), evidence_of=1))  # a dog, found, and taken for a cat
    evaluator.update(9, result(0, (4, 4, 20, 12)))  # a cat, looked for where the dog is
    scores = evaluator.compute()
    assert scores == {
        "top1": pytest.approx(2 / 3),
        "loc/top1": pytest.approx(1 / 3),
        "loc/top1_error": pytest.approx(2 / 3),
        "loc/gt_known": pytest.approx(2 / 3),
        "loc/corloc": pytest.approx(3 / 4),
        "max_box_acc": pytest.approx(2 / 3),
        "max_box_acc_v2": pytest.approx(2 / 3),
        "pointing": pytest.approx(3 / 4),
        "pxap": scores["pxap"],
    }
    assert scores["pxap"] > 0.95  # of the pictures with masks; their edges are of another resize
    lines = evaluator.report().splitlines()
    assert lines[1].split() == ["cat", "2", "0.5000", "0.5000"] and lines[2].split() == ["dog", "1", "1.0000", "1.0000"]


def test_the_threshold_is_a_share_of_the_maximum():
    def found(threshold):
        evaluator = MapLocalizationEvaluator(Source(), threshold)
        evaluator.update(7, result(0, (30, 10, 50, 35), low=0.18))
        return evaluator.compute()["loc/gt_known"]

    assert found(0.2) == 1 and found(0.15) == 0  # below 0.18 the whole picture is above it


def test_a_source_without_boxes_has_the_class_alone():
    evaluator = MapLocalizationEvaluator(Source(boxes=False))
    evaluator.update(7, result(0, (30, 10, 50, 35)))
    assert evaluator.compute() == {"top1": 1} and evaluator.pictures() == {}


def test_maps_of_other_classes_are_an_error():
    wrong = result(0, (30, 10, 50, 35))
    wrong["class_maps"] = wrong["class_maps"][..., :1]
    with pytest.raises(ValueError, match="1 maps for 2 classes"):
        MapLocalizationEvaluator(Source()).update(7, wrong)


def test_an_image_without_a_box_of_its_class_is_named():
    class Other(Source):
        def annotations(self, i):
            return {**super().annotations(i), "classes": np.int32([2, 2])}

    evaluator = MapLocalizationEvaluator(Other())
    with pytest.raises(ValueError, match="image 7 has no box of its class, cat"):
        evaluator.update(7, result(0, (30, 10, 50, 35)))
    assert evaluator.top.count == 0


def test_records_have_the_boxes_of_the_classes():
    rows = TASK.records("a.png", result(1, (30, 10, 50, 35)), ("cat", "dog"))
    assert [row["class_name"] for row in rows] == ["dog", "cat"]
    assert rows[0]["bbox"] == [30, 10, 20, 25] and rows[1]["bbox"] == [0, 0, 0, 0]


def test_a_picture_shows_the_map_and_both_boxes_in_their_places():
    image = np.full((40, 60, 3), 128, np.uint8)
    own = result(0, (30, 10, 50, 35))
    truth = TASK.truth({"label": 0, "boxes": np.float32([[4, 4, 20, 12]]), "classes": np.int32([1])})
    plain, both = TASK.draw(image, own, ("cat", "dog")), TASK.draw(image, {**own, "truth": truth}, ("cat", "dog"))
    assert plain.shape == both.shape == (400, 600, 3)
    hot = plain[150:300, 350:450].reshape(-1, 3).mean(0)
    cold = plain[380:, :200].reshape(-1, 3).mean(0)
    assert hot[0] > hot[2] + 50 and cold[2] > cold[0] + 50  # red on the object, blue elsewhere
    rows, columns = np.nonzero((plain != both).any(-1))
    assert columns.min() in range(38, 42) and columns.max() in range(197, 230)  # a line's width, and the name's ground
    assert rows.max() in range(117, 122)
    alone = TASK.draw(image, truth, ("cat", "dog"))
    assert (alone != cv2.resize(image, (600, 400))).any() and alone.shape == (400, 600, 3)
    assert TASK.draw(image, {"label": 1}, ("cat", "dog")).shape == (400, 600, 3)


def test_pictures_of_an_evaluation():
    evaluator = MapLocalizationEvaluator(Source())
    evaluator.update(7, result(0, (30, 10, 50, 35)))
    pictures = evaluator.pictures()
    assert set(pictures) == {"box_accuracy", "pixel_precision_recall"}
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for picture in pictures.values())


def test_maps_of_several_views_are_turned_back_and_averaged():
    tta, rng = TTA(flip=True, scales=(1.0, 2.0)), np.random.default_rng(0)
    maps = rng.normal(size=(4, 6, 2)).astype(np.float32)
    large = maps.repeat(2, 0).repeat(2, 1)
    views = [{"probabilities": np.float32([p, 1 - p]), "class_maps": m, "size": np.array([40, 60])} for p, m in zip(
        (0.1, 0.3, 0.5, 0.7), (maps, maps[:, ::-1], large, large[:, ::-1])
    )]  # fmt: skip
    turned = [tta.unmirror(view, 60) if mirrored else view for view, (_, mirrored) in zip(views, tta.views())]
    np.testing.assert_array_equal(turned[1]["class_maps"], maps)
    fused = tta.fuse(turned)
    np.testing.assert_allclose(fused["probabilities"], [0.4, 0.6], rtol=1e-6)
    np.testing.assert_allclose(fused["class_maps"], (maps + resize_map(large, (4, 6))) / 2, atol=1e-6)
    np.testing.assert_array_equal(fused["size"], [40, 60])
