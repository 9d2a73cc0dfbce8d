import json

import numpy as np
import pytest
from devkits import pictures, write_voc_detection
from tiny import tiny_config

from jaxvision import architecture as architectures
from jaxvision import tasks
from jaxvision.data.sources import open_source
from jaxvision.data.validation import ExampleError
from jaxvision.metrics.coco import CocoEvaluator
from jaxvision.metrics.voc import VocAP
from jaxvision.tasks.detection_evaluator import DetectionEvaluator
from jaxvision.train.stages import run

OBJECTS = [
    [("dog", (1, 1, 40, 40), 0), ("person", (45, 5, 60, 45), 1)],
    [("dog", (10, 10, 40, 40), 0), ("cat", (30, 2, 60, 20), 0)],
    [("car", (2, 3, 20, 30), 0)],
]


@pytest.fixture
def voc(tmp_path):
    examples = [(picture, rows) for (picture, _), rows in zip(pictures(3), OBJECTS)]
    write_voc_detection(tmp_path / "VOC2007", {"test": examples})
    return open_source(f"voc_detection:{tmp_path}:test")


def result(*rows):
    """Of (class name, x1, y1, x2, y2, score) in edges of pixels."""
    classes = {"cat": 8, "dog": 12, "car": 7, "person": 15, "sofa": 18}
    return {
        "boxes": np.array([row[1:5] for row in rows], np.float32).reshape(-1, 4),
        "classes": np.array([classes[row[0]] for row in rows], int),
        "scores": np.array([row[5] for row in rows], np.float32),
    }


RESULTS = [
    result(("dog", 0, 0, 40, 40, 0.9), ("person", 44, 4, 60, 45, 0.8), ("dog", 0, 0, 40, 39, 0.7)),
    result(("cat", 9, 9, 40, 40, 0.6), ("cat", 29, 1, 60, 20, 0.55), ("dog", 9, 9, 40, 20, 0.2)),
    result(("sofa", 50, 40, 60, 47, 0.95)),
]


def scored(source, evaluator=None):
    evaluator = evaluator or tasks.get("detection").evaluator(source)
    for image, found in enumerate(RESULTS):
        evaluator.update(image, found)
    return evaluator


def test_a_set_with_difficult_objects_has_cocos_scores_and_vocs(voc):
    scores, coco, rule = scored(voc).compute(), CocoEvaluator(voc, ("boxes",)), VocAP(voc.class_names)
    for image, found in enumerate(RESULTS):
        coco.update(image, found)
        rule.update(image, found, voc.annotations(image))
    np.testing.assert_equal({name: scores[name] for name in coco.compute()}, coco.compute())
    np.testing.assert_equal({name: scores[name] for name in rule.compute()}, rule.compute())
    # The dog of the second picture is found by none: one of two, and the cat of one at rank 2; no car.
    assert scores["voc10/AP50/dog"] == scores["voc10/AP50/cat"] == pytest.approx(0.5)
    assert scores["voc10/AP50"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert scores["voc07/AP50/dog"] == pytest.approx(6 / 11) and np.isnan(scores["voc10/AP50/person"])


def test_errors_are_named(voc):
    """Of dogs the best two are right and a repetition, the best cat is the dog, no car is there: means over three classes."""
    scores = scored(voc).compute()
    assert scores["correct@N"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert scores["errors/localisation"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert scores["errors/similar"] == scores["errors/missing"] == pytest.approx(1 / 3)
    assert scores["errors/other"] == scores["errors/background"] == 0


def test_a_report_has_a_line_for_each_class(voc):
    header, *lines = scored(voc).report().splitlines()
    assert header.split() == [
        "class",
        "objects",
        "AP50",
        "correct",
        "localisation",
        "similar",
        "other",
        "background",
        "missing",
    ]
    assert len(lines) == 20 and len({len(line) for line in (header, *lines)}) == 1
    assert lines[11].split() == ["dog", "2", "0.5000", "0.5000", "0.5000", "0.0000", "0.0000", "0.0000", "0.0000"]
    assert lines[14].split() == ["person", "0", *["nan"] * 7]


def test_pictures_of_confusions_curves_and_errors(voc):
    evaluator = scored(voc)
    assert set(evaluator.pictures()) == {"confusion", "precision_recall", "error_types"}
    for picture in evaluator.pictures().values():
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    matrix = evaluator.confusion.matrix
    assert matrix[12, 12] == matrix[12, 8] == matrix[8, 8] == matrix[7, 0] == matrix[0, 18] == matrix[0, 12] == 1
    assert matrix.sum() == 6  # the dog of score 0.2 is not looked at


def test_pictures_of_nothing(voc):
    evaluator = tasks.get("detection").evaluator(voc)
    evaluator.update(0, result())
    assert len(evaluator.pictures()) == 3 and evaluator.compute()["errors/missing"] == 1
    assert "nan" in evaluator.report()


def test_parts_merge_to_the_whole(voc):
    whole, first, second = (tasks.get("detection").evaluator(voc) for _ in range(3))
    for image, found in enumerate(RESULTS):
        whole.update(image, found)
        (first if image == 1 else second).update(image, found)
    first.merge(second)
    np.testing.assert_equal(first.compute(), whole.compute())
    for name, picture in whole.pictures().items():
        np.testing.assert_array_equal(first.pictures()[name], picture)
    assert json.dumps(first.results())


def test_a_devkit_trains_and_is_scored(monkeypatch, tmp_path):
    """Two years together with SSD's transforms; scores and pictures of the other split; a wrong XML stops the training."""
    monkeypatch.setitem(architectures.REGISTRY, "detector", "detector:detector")
    for year in ("2007", "2012"):
        examples = [(picture, rows) for (picture, _), rows in zip(pictures(3), OBJECTS)]
        write_voc_detection(tmp_path / f"VOC{year}", {"trainval": examples, "test": examples}, year)
    steps = {name: {} for name in ("photometric_distort", "zoom_out", "iou_crop", "flip")}
    splits = {"train": "VOC2007/trainval+VOC2012/trainval", "validation": "VOC2007/test"}
    data = {"source": f"voc_detection:{tmp_path}", "transforms": steps, **splits}
    changes = {"steps": 2, "evaluate": {"every": 2, "metric": "voc07/AP50"}, "data": data}
    config = tiny_config("detector", **changes)
    scores = run(config, str(tmp_path / "run"))["validation"]
    assert 0 <= scores["voc07/AP50"] <= 1 and 0 <= scores["box/AP"] <= 1 and np.isfinite(scores["loss"])
    assert sum(value for name, value in scores.items() if name.startswith(("errors/", "correct"))) == pytest.approx(1)
    found = {path.stem for path in (tmp_path / "run" / "pictures").glob("*.png")}
    names = ("image_0", "image_1", "image_2", "confusion", "precision_recall", "error_types")
    assert found == {f"step_0000002_{name}" for name in names}
    for path in (tmp_path / "VOC2012" / "Annotations").glob("2012_0000*.xml"):
        path.write_text(path.read_text().replace("<object>", "<thing>").replace("</object>", "</thing>"))
    with pytest.raises(ExampleError, match=r"2012_00000\d\.xml: there is no <object>"):
        run(config, str(tmp_path / "again"))


def test_without_such_marks_there_are_no_scores_of_vocs():
    class Plain:
        name, class_names, keypoint_names, sigmas = "plain", ("background", "cat", "dog"), (), None
        image_ids = (5,)

        def annotations(self, i):
            return {"image_id": 5, "boxes": np.array([[0, 0, 9, 9]], np.float32), "classes": np.array([1])}

    evaluator = DetectionEvaluator(Plain(), ("boxes",))
    evaluator.update(5, {"boxes": np.array([[0, 0, 9, 8]]), "classes": np.array([1]), "scores": np.array([0.7])})
    scores = evaluator.compute()
    assert scores["correct@N"] == 1 and not any(name.startswith("voc") or name.endswith("similar") for name in scores)
    grouped = DetectionEvaluator(Plain(), ("boxes",), groups=(("cat", "dog"),))
    grouped.update(5, {"boxes": np.array([[0, 0, 9, 8]]), "classes": np.array([2]), "scores": np.array([0.7])})
    assert grouped.compute()["errors/missing"] == 1 and grouped.compute()["errors/similar"] == 0
