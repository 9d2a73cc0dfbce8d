import numpy as np
import pytest

from jaxvision import tasks
from jaxvision.data.loader import Batches
from jaxvision.data.sources import image_labels
from jaxvision.tasks.classification import most_confused


class Labelled:
    """Images with the given annotations, nothing else."""

    name, keypoint_names, flip_pairs, sizes = "labelled", (), (), None

    def __init__(self, class_names, rows):
        self.class_names, self.rows = tuple(class_names), rows

    def __len__(self):
        return len(self.rows)

    def annotations(self, i):
        return {"image_id": 10 + i, **self.rows[i]}

    def __getitem__(self, i):
        return {"image": np.zeros((8, 8, 3), np.uint8), **self.annotations(i)}


def test_a_classifiers_scores_by_hand():
    source = Labelled("abc", [{"label": k} for k in (0, 0, 1, 1, 1, 1)])
    evaluator = tasks.get("classification").evaluator(source)
    for i, predicted in enumerate((0, 1, 1, 1, 1, 0)):
        evaluator.update(10 + i, {"probabilities": np.eye(3)[predicted] * 0.5 + 0.1})
    scores = evaluator.compute()
    assert scores == pytest.approx(
        {"top1": 4 / 6, "precision@1": 4 / 6, "recall@1": 4 / 6, "mean_class_accuracy": (1 / 2 + 3 / 4) / 2}
    )
    lines = evaluator.report().splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["a", "2", "0.5000", "0.5000"],
        ["b", "4", "0.7500", "0.7500"],
        ["c", "0", "nan", "nan"],
    ]
    np.testing.assert_array_equal(evaluator.matrix.matrix, [[1, 1, 0], [1, 3, 0], [0, 0, 0]])
    picture = evaluator.pictures()["confusion"]
    assert picture.dtype == np.uint8 and picture.ndim == 3


def test_class_255_is_a_class():
    source = Labelled(map(str, range(300)), [{"label": 255}])
    evaluator = tasks.get("classification").evaluator(source)
    evaluator.update(10, {"probabilities": np.eye(300)[255]})
    assert evaluator.compute()["mean_class_accuracy"] == 1
    assert max(evaluator.pictures()["confusion"].shape) < 3500


def test_the_most_confused_of_many_classes():
    matrix = np.diag([9, 9, 9, 9])
    matrix[2, 0], matrix[3, 1] = 5, 1
    counts, names = most_confused(matrix, "abcd", 2)
    assert names == ("a", "c", "2 others")
    np.testing.assert_array_equal(counts, [[9, 0, 0], [5, 9, 0], [0, 0, 19]])
    assert most_confused(matrix, "abcd", 4)[1] == "abcd"


def test_what_an_image_shows():
    objects = {"classes": np.array([3, 1, 3]), "label": 1}
    assert image_labels(objects).tolist() == [0, 2]
    assert image_labels({**objects, "difficult": np.array([False, True, False])}).tolist() == [2]
    assert image_labels({**objects, "labels": np.array([False, True, True])}).tolist() == [1, 2]
    assert image_labels({"label": 4}).tolist() == [4]
    assert image_labels({"classes": np.zeros(0, int)}).tolist() == []
    with pytest.raises(ValueError, match="image 7 has neither labels nor objects nor a label"):
        image_labels({"image_id": 7, "semantic": np.zeros((2, 2))})


def test_several_labels_by_hand():
    rows = [{"classes": np.array([1, 2])}, {"classes": np.array([2, 2])}, {"classes": np.zeros(0, int)}]
    evaluator = tasks.get("multi_label").evaluator(Labelled(("background", "cat", "dog"), rows))
    for i, scores in enumerate(([0.9, 0.2], [0.8, 0.7], [0.1, 0.6])):
        evaluator.update(10 + i, {"probabilities": np.array(scores)})
    scores = evaluator.compute()
    # Cats are ranked first; dogs second and third.
    assert scores["AP/cat"] == 1 and scores["AP/dog"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert scores["precision@1"] == pytest.approx(1 / 3) and scores["recall@1"] == pytest.approx((1 / 2 + 0) / 2)
    assert "precision@3" not in scores
    assert evaluator.pictures()["precision_recall"].ndim == 3


def test_labels_are_of_what_a_crop_leaves():
    example = {"boxes": np.array([[0, 0, 4, 4], [6, 0, 8, 4]], np.float32), "classes": np.array([1, 2], np.int32)}
    source = Labelled(("background", "left", "right"), [example])
    options = {"batch_size": 8, "fields": ("labels",), "canvases": [(8, 4)]}
    assert Batches(source, **options)[0]["labels"][0].tolist() == [True, True]
    crops = Batches(source, seed=0, transforms_config={"crop": {"height": 8, "width": 4}}, **options)[0]["labels"]
    assert crops.dtype == bool and 0 < crops[:, 1].sum() < 8 and crops.any(1).all()
