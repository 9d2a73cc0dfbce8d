"""Classification: one class for an image."""

import numpy as np

from jaxvision.data.sources import label_names, rows_by_id
from jaxvision.metrics.classification import AtK, TopK
from jaxvision.metrics.confusion import ConfusionMatrix
from jaxvision.tasks import Task
from jaxvision.tasks.report import lines
from jaxvision.visualize.classification import draw_classification
from jaxvision.visualize.confusion import draw_confusion

SHOWN = 50  # classes of a confusion matrix's picture


class ClassificationEvaluator:
    """top1, and top5 where there are more than five classes; precision@k and recall@k of the same k (see `AtK`); and
    mean_class_accuracy, the mean over classes of the share of their images that are right.

    Picture: `confusion`; of more than `SHOWN` classes those that are most often confused, the others together.
    """

    def __init__(self, source):
        self.source, self.rows, self.names = source, rows_by_id(source), label_names(source)
        ks = (1, 5) if len(self.names) > 5 else (1,)
        self.top, self.at, self.matrix = TopK(ks), AtK(ks), ConfusionMatrix(len(self.names), ignore=-1)

    def update(self, image_id, result):
        label = self.source.annotations(self.rows[int(image_id)])["label"]
        scores = result["probabilities"]
        self.top.update(scores[None], np.array([label]))
        self.at.update(scores, np.arange(len(scores)) == label)
        self.matrix.update(np.argmax(scores), label)

    def merge(self, other):
        for own, theirs in zip((self.top, self.at, self.matrix), (other.top, other.at, other.matrix)):
            own.merge(theirs)

    def compute(self):
        scores = {**self.top.compute(), **self.at.compute()}
        return scores | {"mean_class_accuracy": float(np.nanmean(self.matrix.table()["accuracy"]))}

    def report(self):
        """A line for each class, to be printed: its images, and precision and recall of the most probable class."""
        right, images, predicted = np.diag(self.matrix.matrix), self.matrix.matrix.sum(1), self.matrix.matrix.sum(0)
        with np.errstate(invalid="ignore"):
            columns = {"images": images, "precision": right / predicted, "recall": right / images}
        return "\n".join(lines("class", self.names, columns))

    def pictures(self):
        return {"confusion": draw_confusion(*most_confused(self.matrix.matrix, self.names, SHOWN))}


def most_confused(matrix, names, most: int):
    """(counts, names) of the `most` classes with most errors, in their order, and all others as one class more."""
    if len(names) <= most:
        return matrix, names
    errors = matrix.sum(0) + matrix.sum(1) - 2 * np.diag(matrix)
    kept = np.sort(np.argsort(-errors, kind="stable")[:most])
    group = np.full(len(names), most)
    group[kept] = np.arange(most)
    joined = np.zeros((most + 1, most + 1), matrix.dtype)
    np.add.at(joined, (group[:, None], group), matrix)
    return joined, (*(names[k] for k in kept), f"{len(names) - most} others")


def best(result, names, count=5):
    """The (name, probability) pairs of the most probable classes."""
    order = np.argsort(-result["probabilities"], kind="stable")[:count]
    return [(names[k], float(result["probabilities"][k])) for k in order]


def _truth(example):
    return {"label": int(example["label"])}


def _draw(image, result, names, threshold=0.5):
    pairs = [(names[result["label"]], 1.0)] if "label" in result else best(result, names)
    return draw_classification(image, pairs)


def _records(name, result, names):
    return [{"file_name": name, "class_name": label, "score": score} for label, score in best(result, names)]


CLASSIFICATION = Task(
    name="classification",
    fields=("label",),
    metric="top1",
    class_names=label_names,
    result=lambda prediction, image_size, original_size: {"probabilities": prediction["probabilities"]},
    truth=_truth,
    evaluator=ClassificationEvaluator,
    draw=_draw,
    records=_records,
)
