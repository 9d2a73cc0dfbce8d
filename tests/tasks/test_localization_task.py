import json

import numpy as np
import pytest

from jaxvision import tasks
from jaxvision.data.scenes import open_scenes
from jaxvision.data.validation import ExampleError

TASK = tasks.get("localization")


@pytest.fixture(scope="module")
def single(prepared):
    return open_scenes("single", "validation", prepared("single"))


def perfect(example, moved=0.0, swapped=False):
    """The truth as a result; the other classes' boxes are elsewhere."""
    boxes = np.tile(np.array([0, 0, 3, 3], np.float32), (6, 1))
    boxes[example["label"]] = example["boxes"][0] + np.float32(moved)
    return {"probabilities": np.roll(np.eye(6)[example["label"]], swapped) * 0.9 + 0.01, "class_boxes": boxes}


def scores(source, **changes):
    halves = TASK.evaluator(source), TASK.evaluator(source)
    for i in range(len(source)):
        example = source.annotations(i)
        halves[i % 2].update(example["image_id"], perfect(example, **changes))
    halves[0].merge(halves[1])
    return halves[0]


def test_a_box_is_scaled_by_each_axiss_own_ratio():
    prediction = {
        "probabilities": np.array([0.3, 0.7]),
        "class_boxes": np.array([[1, 2, 3, 4], [0, 0, 64, 32]], np.float32),
    }
    found = TASK.result(prediction, (32, 64), (64, 192))
    np.testing.assert_array_equal(found["class_boxes"], [[3, 4, 9, 8], [0, 0, 192, 64]])
    np.testing.assert_array_equal(found["probabilities"], prediction["probabilities"])


def test_class_and_box_must_both_be_right(single):
    right, moved, swapped = (scores(single, **c).compute() for c in ({}, {"moved": 40.0}, {"swapped": True}))
    assert right["loc/top1"] == right["top1"] == right["loc/gt_known"] == 1 == right["loc/top5"]
    assert moved["top1"] == 1 and moved["loc/top1"] == moved["loc/gt_known"] == 0
    assert swapped["top1"] == swapped["loc/top1"] == 0 and swapped["loc/gt_known"] == 1
    assert TASK.metric in right


def test_the_report_has_a_line_for_each_class(single):
    lines = scores(single).report().splitlines()
    assert len(lines) == 7 and lines[0].split() == ["class", "images", "gt_known"]
    assert sum(int(line.split()[1]) for line in lines[1:]) == len(single)


def test_several_objects_of_the_class_count_and_others_do_not():
    class Source:
        name, class_names = "own", ("background", "cat", "dog")

        def __len__(self):
            return 1

        def annotations(self, _):
            boxes = [[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]]
            return {"image_id": 7, "label": 0, "boxes": np.array(boxes, float), "classes": np.array([1, 2, 1])}

    for box, found in (([0, 0, 10, 10], 1), ([20, 20, 30, 30], 0), ([40, 40, 50, 50], 1)):
        evaluator = TASK.evaluator(Source())
        evaluator.update(7, {"probabilities": np.array([0.9, 0.1]), "class_boxes": np.array([box, box], float)})
        assert evaluator.compute()["loc/top1"] == found
    truth = TASK.truth(Source().annotations(0))
    assert truth["label"] == 0 and truth["boxes"].tolist() == [[0, 0, 10, 10], [40, 40, 50, 50]]


def test_the_box_and_its_class_are_drawn_and_listed(single):
    example, names = single[0], TASK.class_names(single)
    assert names == ("circle", "square", "triangle", "star", "cross", "person")
    truth = TASK.draw(example["image"], TASK.truth(example), names, 0.5)
    right, wrong = (TASK.draw(example["image"], perfect(example, moved=m), names, 0.5) for m in (0, 9))
    x1, _, x2, y2 = (3 * example["boxes"][0]).astype(int)  # enlarged threefold
    edge = np.s_[y2 - 1, (x1 + x2) // 2]  # the middle of the lower one
    assert (truth[edge] == right[edge]).all() and (truth[edge] != wrong[edge]).any()
    rows = json.loads(json.dumps(TASK.records("a.png", perfect(example), names)))
    assert (
        len(rows) == 5 and rows[0]["class_name"] == names[example["label"]] and rows[0]["score"] == pytest.approx(0.91)
    )
    x, y, width, height = rows[0]["bbox"]
    np.testing.assert_allclose([x, y, x + width, y + height], example["boxes"][0], rtol=1e-5)


def test_an_image_without_an_object_of_its_label_is_named(single):
    example = single[0]
    TASK.check(example)
    where = rf"image {example['image_id']} \(scenes/single/validation#0\)"
    without = {k: v[:0] if k in ("boxes", "classes", "crowd") else v for k, v in example.items()}
    other = {**example, "classes": example["classes"] % 6 + 1}
    crowd = {**example, "crowd": np.ones(1, bool)}
    for changed in (without, other, crowd):
        with pytest.raises(ExampleError, match=where + ": its label is .*, and no object is of that class"):
            TASK.check(changed)
    with pytest.raises(ExampleError, match=where + ": there is no label"):
        TASK.check({k: v for k, v in example.items() if k != "label"})
