"""Classification: one class for an image."""

import numpy as np

from jaxvision.data.sources import label_names, rows_by_id
from jaxvision.metrics.classification import TopK
from jaxvision.tasks import Task
from jaxvision.visualize.classification import draw_classification


class ClassificationEvaluator:
    """top1, and top5 where there are more than five classes."""

    def __init__(self, source):
        self.source, self.rows = source, rows_by_id(source)
        self.top = TopK((1, 5) if len(label_names(source)) > 5 else (1,))

    def update(self, image_id, result):
        label = self.source.annotations(self.rows[int(image_id)])["label"]
        self.top.update(result["probabilities"][None], np.array([label]))

    def merge(self, other):
        self.top.merge(other.top)

    def compute(self):
        return self.top.compute()


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
