import json

import numpy as np
import pytest

from jaxvision import tasks
from jaxvision.data.collate import frame_mask
from jaxvision.data.scenes import open_scenes

RNG = np.random.default_rng(0)
DETECTORS = ["detection", "instance_segmentation"]
SINGLE = ("classification", "localization", "map_localization")  # tasks of scenes of one object


def prediction(boxes, **fields):
    count = len(boxes)
    return {
        "boxes": np.array(boxes, np.float32),
        "classes": np.arange(1, count + 1, dtype=np.int32),
        "scores": np.linspace(0.9, 0.5, count, dtype=np.float32),
        "valid": np.ones(count, bool),
        **fields,
    }


# Results in pixels of the original


@pytest.mark.parametrize("name", DETECTORS)
def test_boxes_are_scaled_by_each_axiss_own_ratio(name):
    found = tasks.get(name).result(
        prediction([[1, 2, 3, 4], [0, 0, 64, 32], [5, 5, 6, 6]], valid=np.array([True, True, False])),
        np.array([32, 64]),
        np.array([64, 192]),
    )
    np.testing.assert_array_equal(found["boxes"], [[3, 4, 9, 8], [0, 0, 192, 64]])
    np.testing.assert_array_equal(found["classes"], [1, 2])
    np.testing.assert_array_equal(found["scores"], np.linspace(0.9, 0.5, 3, dtype=np.float32)[:2])
    assert found["boxes"].dtype == np.float32 and "masks" not in found


def test_a_square_at_half_resolution_lands_on_its_pixels():
    masks = np.ones((1, 28, 28), np.float32)
    found = tasks.get("instance_segmentation").result(prediction([[8, 4, 16, 12]], masks=masks), (32, 32), (64, 64))
    expected = np.zeros((64, 64), bool)
    expected[8:24, 16:32] = True
    assert found["masks"].shape == (1, 64, 64) and found["masks"].dtype == bool
    np.testing.assert_array_equal(found["masks"][0], expected)


def test_a_masks_cells_land_where_they_lie_in_its_box():
    """The left half of a box twice as wide as it is high, on an image stretched along one axis."""
    masks = np.zeros((1, 28, 28), np.float32)
    masks[0, :, :14] = 0.9
    found = tasks.get("instance_segmentation").result(prediction([[4, 10, 20, 18]], masks=masks), (32, 32), (32, 96))
    expected = np.zeros((32, 96), bool)
    expected[10:18, 12:36] = True
    np.testing.assert_array_equal(found["masks"][0], expected)


def test_no_detection_is_a_result_of_no_rows():
    empty = prediction(np.zeros((3, 4)), valid=np.zeros(3, bool), masks=np.ones((3, 28, 28), np.float32))
    found = tasks.get("instance_segmentation").result(empty, (32, 32), (40, 50))
    assert {name: value.shape for name, value in found.items()} == {
        "boxes": (0, 4),
        "classes": (0,),
        "scores": (0,),
        "masks": (0, 40, 50),
    }


def test_a_segmentation_takes_the_nearest_pixel_of_the_images_part_of_the_canvas():
    canvas = np.full((32, 32), 9, np.int32)  # what lies beyond the image must not come back
    canvas[:20, :10] = RNG.integers(0, 5, (20, 10))
    result = tasks.get("segmentation").result
    same = result({"semantic": canvas}, (20, 10), (20, 10))["semantic"]
    np.testing.assert_array_equal(same, canvas[:20, :10])
    doubled = result({"semantic": canvas}, (20, 10), (40, 30))["semantic"]
    np.testing.assert_array_equal(doubled, canvas[:20, :10].repeat(2, 0).repeat(3, 1))
    for size in ((7, 4), (33, 17), (1, 1), (200, 101)):
        found = result({"semantic": canvas}, (20, 10), size)["semantic"]
        assert found.shape == size
        for y, x in ((0, 0), (size[0] // 2, size[1] // 3), (size[0] - 1, size[1] - 1)):
            row, column = int((y + 0.5) * 20 / size[0]), int((x + 0.5) * 10 / size[1])
            assert found[y, x] == canvas[row, column]


# Scores


@pytest.fixture(scope="module")
def shapes(scenes_dir):
    return open_scenes("shapes", "validation", scenes_dir)


@pytest.fixture(scope="module")
def single(prepared):
    return open_scenes("single", "validation", prepared("single"))


def perfect(task, example):
    """The truth as a task's result; a crowd is not detected."""
    truth = task.truth(example)
    if "boxes" in truth and "label" not in truth:
        truth = {name: value[~example["crowd"]] for name, value in truth.items()}
    if task.name == "localization":
        return {"probabilities": np.eye(6)[truth["label"]], "class_boxes": np.tile(truth["boxes"][0], (6, 1))}
    if task.name == "map_localization":
        maps = example["masks"][0, ..., None] * (np.arange(6) == truth["label"])
        return {"probabilities": np.eye(6)[truth["label"]], "class_maps": maps * 1.0, "size": maps.shape[:2]}
    if "label" in truth:
        return {"probabilities": np.eye(6)[truth["label"]]}
    if "shown" in truth:
        return {"probabilities": np.isin(np.arange(6), truth["shown"]).astype(np.float32)}
    return truth


def evaluated(task, source, rows, alter=lambda result: result):
    evaluator = task.evaluator(source)
    for i in rows:
        example = source.annotations(i)
        evaluator.update(example["image_id"], alter(perfect(task, example)))
    return evaluator


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("detection", ["box/AP", "box/AP50", "box/AR100"]),
        ("instance_segmentation", ["box/AP", "mask/AP", "mask/AP75", "mask/AP/person"]),
        ("segmentation", ["mean_iu", "pixel_accuracy", "mean_iu/class/person"]),
        ("classification", ["top1", "precision@1", "recall@5", "mean_class_accuracy"]),
        ("localization", ["top1", "loc/top1", "loc/top5", "loc/gt_known", "loc/corloc"]),
        ("map_localization", ["top1", "loc/top1", "loc/gt_known", "loc/corloc", "max_box_acc", "pointing"]),
        ("multi_label", ["mAP", "mAP/voc07", "AP/person", "precision@1", "recall@5"]),
    ],
)
def test_perfect_predictions_have_perfect_scores(name, metrics, shapes, single):
    task = tasks.get(name)
    source = single if name in SINGLE else shapes
    scores = evaluated(task, source, range(len(source))).compute()
    assert task.metric in scores and task.metric in metrics
    for metric in metrics:
        assert scores[metric] == pytest.approx(1, abs=1e-6), metric
    assert name != "detection" or not any(metric.startswith("mask") for metric in scores)


def test_wrong_predictions_have_lower_scores(shapes, single):
    def shifted(result):
        return {**result, "boxes": result["boxes"] + 8, "masks": np.roll(result["masks"], 8, (1, 2))}

    def flooded(result):
        return {"semantic": np.zeros_like(result["semantic"])}

    def turned(result):
        return {"probabilities": np.roll(result["probabilities"], 1)}

    scores = evaluated(tasks.get("instance_segmentation"), shapes, range(8), shifted).compute()
    assert scores["box/AP"] < 0.5 and scores["mask/AP"] < 0.5
    assert evaluated(tasks.get("segmentation"), shapes, range(8), flooded).compute()["mean_iu"] < 0.2
    assert evaluated(tasks.get("classification"), single, range(8), turned).compute()["top1"] == 0


@pytest.mark.parametrize("name", tasks.TASKS)
def test_evaluators_of_two_parts_merge_to_that_of_the_whole(name, shapes, single):
    def uneven(result):
        if "boxes" in result:
            return {**result, "boxes": result["boxes"] * np.float32([1, 1, 0.9, 1])}
        return {key: np.roll(value, 1) for key, value in result.items()}

    task = tasks.get(name)
    source = single if name in SINGLE else shapes
    first, second, whole = (evaluated(task, source, rows, uneven) for rows in (range(5), range(5, 12), range(12)))
    first.merge(second)
    np.testing.assert_equal(first.compute(), whole.compute())


@pytest.mark.parametrize("name", ["detection", "segmentation", "multi_label", "pose", *SINGLE])
def test_nothing_given_is_an_error(name, shapes, single):
    with pytest.raises(ValueError, match=r"no (image|labelled pixel|labelled joint) was given"):
        tasks.get(name).evaluator(single if name in SINGLE else shapes).compute()


# What a person sees


@pytest.mark.parametrize("name", tasks.TASKS)
def test_truth_and_results_can_be_drawn_and_listed(name, shapes, single):
    task = tasks.get(name)
    source = single if name in SINGLE else shapes
    names = task.class_names(source)
    assert ("background" in names) == (name not in (*SINGLE, "multi_label"))
    example = source[3]
    result = perfect(task, example)
    for drawn in (task.truth(example), result):
        picture = task.draw(example["image"], drawn, names, 0.5)
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    rows = json.loads(json.dumps(task.records("a.png", result, names)))
    assert all(row["file_name"] == "a.png" for row in rows)
    if "boxes" in result:
        x1, y1, x2, y2 = result["boxes"][0].tolist()
        assert len(rows) == len(result["boxes"]) and rows[0]["bbox"] == [x1, y1, x2 - x1, y2 - y1]
        assert rows[0]["class_name"] == names[result["classes"][0]] and rows[0]["score"] == 1
        assert ("segmentation" in rows[0]) == (name == "instance_segmentation")
    elif name == "segmentation":
        assert sum(rows[0]["share_of_pixels"].values()) == pytest.approx(1)
    elif name == "multi_label":
        assert [row["class_name"] for row in rows] == [names[k] for k in np.unique(example["classes"]) - 1]
    elif "joints" in result:
        assert len(rows) == 1 and rows[0]["keypoints"] == result["joints"].ravel().tolist()
    else:
        assert len(rows) == 5 and rows[0]["class_name"] == names[example["label"]] and rows[0]["score"] == 1


def test_a_mask_through_the_batchs_grid_is_scored_all_but_perfect(shapes):
    """What training learns at best: the true mask on its 28 x 28 grid, pasted back."""
    task = tasks.get("instance_segmentation")
    evaluator = task.evaluator(shapes)
    for i in range(8):
        example = shapes.annotations(i)
        kept = ~example["crowd"]
        boxes = example["boxes"][kept]
        masks = [frame_mask(m, b, 28).astype(np.float32) for m, b in zip(example["masks"][kept], boxes)]
        row = {
            "boxes": boxes,
            "classes": example["classes"][kept],
            "scores": np.ones(len(boxes), np.float32),
            "valid": np.ones(len(boxes), bool),
            "masks": np.stack(masks),
        }
        size = example["semantic"].shape
        evaluator.update(example["image_id"], task.result(row, size, size))
    scores = evaluator.compute()
    assert scores["box/AP"] == pytest.approx(1, abs=1e-6) and scores["mask/AP"] > 0.9


def test_an_unknown_task_is_an_error():
    with pytest.raises(KeyError):
        tasks.get("tracking")
