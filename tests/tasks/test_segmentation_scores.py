import numpy as np
import pytest

from jaxvision import tasks
from jaxvision.metrics.confusion import ConfusionMatrix

TASK = tasks.get("segmentation")


class Maps:
    """A source of maps of classes alone; ids are 10, 11, ..."""

    class_names = ("background", "cat", "dog", "never")

    def __init__(self, *maps):
        self.maps = [np.array(m) for m in maps]

    def __len__(self):
        return len(self.maps)

    def annotations(self, index):
        return {"image_id": 10 + index, "semantic": self.maps[index]}


def evaluated(source, predictions, images=None):
    evaluator = TASK.evaluator(source)
    for i in range(len(source)) if images is None else images:
        evaluator.update(10 + i, {"semantic": np.array(predictions[i])})
    return evaluator


def random_pairs(count=6):
    rng = np.random.default_rng(0)
    truths, predictions = [], []
    for _ in range(count):
        size = rng.integers(3, 12, 2)
        truth = np.repeat(rng.integers(0, 3, (1, size[1])), size[0], 0)
        predictions.append(np.where(rng.random(size) < 0.3, rng.integers(0, 3, size), truth))
        truths.append(np.where(rng.random(size) < 0.2, 255, truth))
    return Maps(*truths), predictions


def test_by_hand():
    source = Maps([[0, 0, 0, 1]], [[1, 1, 255, 255]], [[255, 255, 255, 255]])
    scores = evaluated(source, [[[0, 0, 1, 1]], [[2, 1, 0, 0]], [[0, 1, 2, 3]]]).compute()
    # Pooled: background 2 of 3; cat hits 2 of a union of 4; dog is predicted and never true; "never" is nowhere.
    assert scores["mean_iu"] == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)
    # One image: background 2 of 3, cat 1 of 2; the next: cat 1 of 2, dog 0 of 1; the last holds no labelled pixel.
    assert scores["per_image_iou"] == pytest.approx(((2 / 3 + 1 / 2) / 2 + (1 / 2 + 0) / 2) / 2)
    binary = {"background": 5 / 6, "cat": 4 / 6, "dog": 5 / 6, "never": 1}
    assert {name: scores[f"binary_accuracy/class/{name}"] for name in binary} == pytest.approx(binary)
    assert scores["mean_binary_accuracy"] == pytest.approx(sum(binary.values()) / 4)
    assert np.isnan(scores["mean_iu/class/never"]) and scores["mean_iu/class/dog"] == 0


def test_the_mean_over_images_is_a_slow_loops():
    source, predictions = random_pairs()
    means = []
    for truth, predicted in zip(source.maps, predictions):
        counted = truth != 255
        ious = []
        for k in range(4):
            hits, either = ((f(predicted == k, truth == k) & counted).sum() for f in (np.logical_and, np.logical_or))
            if either:
                ious.append(hits / either)
        means.append(np.mean(ious))
    assert evaluated(source, predictions).compute()["per_image_iou"] == pytest.approx(np.mean(means))


def test_bands_along_the_borders_are_of_pixels_near_another_class():
    source, predictions = random_pairs()
    scores = evaluated(source, predictions).compute()
    widths = [int(name.split("@")[1]) for name in scores if name.startswith("trimap_iu@")]
    assert widths == sorted(widths) and len(widths) > 2
    for width in widths:
        matrix = ConfusionMatrix(4)
        for truth, predicted in zip(source.maps, predictions):
            edges = [
                (y, x)
                for y, x in np.ndindex(truth.shape)
                for v, w in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1))
                if 0 <= v < truth.shape[0] and 0 <= w < truth.shape[1] and truth[v, w] != truth[y, x]
            ]
            for y, x in np.ndindex(truth.shape):
                if any(np.hypot(y - v, x - w) < width for v, w in edges):
                    matrix.update(predicted[y, x], truth[y, x])
        assert scores[f"trimap_iu@{width}"] == pytest.approx(matrix.compute()["mean_iu"]), width


def test_parts_merge_to_the_whole():
    source, predictions = random_pairs()
    first, second = evaluated(source, predictions, range(2)), evaluated(source, predictions, range(2, 6))
    first.merge(second)
    np.testing.assert_equal(first.compute(), evaluated(source, predictions).compute())


def test_a_line_for_each_class():
    head, *lines = evaluated(Maps([[0, 0, 0, 1]]), [[[0, 0, 1, 1]]]).report().splitlines()
    assert head.split() == ["class", "pixels", "accuracy", "iu", "binary_accuracy"]
    assert [line.split() for line in lines] == [
        ["background", "3", "0.6667", "0.6667", "0.7500"],
        ["cat", "1", "1.0000", "0.5000", "0.7500"],
        ["dog", "0", "nan", "nan", "1.0000"],
        ["never", "0", "nan", "nan", "1.0000"],
    ]
    assert len({len(line) for line in (head, *lines)}) == 1


def test_the_matrix_is_drawn():
    pictures = evaluated(*random_pairs()).pictures()
    assert list(pictures) == ["confusion"] and pictures["confusion"].dtype == np.uint8
