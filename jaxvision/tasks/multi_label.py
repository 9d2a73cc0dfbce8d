"""Multi-label classification: any number of classes for an image, such as those of the objects that it shows."""

import numpy as np

from jaxvision.data.sources import image_labels, label_names, rows_by_id
from jaxvision.metrics.classification import AtK, LabelAP
from jaxvision.tasks import Task
from jaxvision.tasks.classification import best
from jaxvision.visualize.classification import draw_classification
from jaxvision.visualize.curves import draw_curves

THRESHOLD = 0.5  # from which on a class is said to be there


class MultiLabelEvaluator:
    """mAP, mAP/voc07 and AP/NAME of each class (see `LabelAP`), precision@k and recall@k for k of 1, 3, 5 (see `AtK`), as far
    as there are so many classes. Picture: `precision_recall`, a curve for each class with its AP."""

    def __init__(self, source):
        self.source, self.rows, self.names = source, rows_by_id(source), label_names(source)
        ks = tuple(k for k in (1, 3, 5) if k <= len(self.names))
        self.precision, self.at = LabelAP(self.names), AtK(ks)

    def update(self, image_id, result):
        shown = image_labels(self.source.annotations(self.rows[int(image_id)]))
        labels = np.isin(np.arange(len(self.names)), shown)
        self.precision.update(image_id, result["probabilities"], labels)
        self.at.update(result["probabilities"], labels)

    def merge(self, other):
        self.precision.merge(other.precision)
        self.at.merge(other.at)

    def compute(self):
        return {**self.precision.compute(), **self.at.compute()}

    def pictures(self):
        scores = self.precision.compute()
        titles = [f"{name} {scores[f'AP/{name}']:.3f}" for name in self.names]
        return {"precision_recall": draw_curves(self.precision.curves(), titles, ("recall", "precision"))}


def _draw(image, result, names, threshold=THRESHOLD):
    if "shown" in result:
        return draw_classification(image, [(names[k], 1.0) for k in result["shown"]])
    return draw_classification(image, [pair for pair in best(result, names, len(names)) if pair[1] >= threshold])


def _records(name, result, names):
    found = [pair for pair in best(result, names, len(names)) if pair[1] >= THRESHOLD]
    return [{"file_name": name, "class_name": label, "score": score} for label, score in found]


MULTI_LABEL = Task(
    name="multi_label",
    fields=("labels",),
    metric="mAP",
    class_names=label_names,
    result=lambda prediction, image_size, original_size: {"probabilities": prediction["probabilities"]},
    truth=lambda example: {"shown": image_labels(example)},
    evaluator=MultiLabelEvaluator,
    draw=_draw,
    records=_records,
)
