"""Localisation: the class of an image's one object, and a box for every class that it might be."""

import numpy as np

from jaxvision.data.coco import to_annotations
from jaxvision.data.sources import label_names, rows_by_id
from jaxvision.data.validation import check_object_of_label
from jaxvision.metrics.localization import Localization
from jaxvision.tasks import Task
from jaxvision.tasks.report import lines
from jaxvision.visualize.detections import draw_detections


class LocalizationEvaluator:
    """What `Localization` scores: an image's objects are those of its label, any of which may be found."""

    def __init__(self, source):
        self.source, self.rows, self.names = source, rows_by_id(source), label_names(source)
        self.scores = Localization(len(self.names))

    def update(self, image_id, result):
        truth = _truth(self.source.annotations(self.rows[int(image_id)]))
        self.scores.update(result["probabilities"], result["class_boxes"], truth["label"], truth["boxes"])

    def merge(self, other):
        self.scores.merge(other.scores)

    def compute(self):
        return self.scores.compute()

    def report(self):
        """A line for each class, to be printed: its images, and the share where its box is right (GT-known)."""
        found = self.scores.corloc
        return "\n".join(lines("class", self.names, {"images": found.images, "gt_known": found.table()}))


def _result(prediction, image_size, original_size):
    """probabilities (K,) and class_boxes (K,4) in pixels of the original."""
    ratio = np.asarray(original_size, np.float32) / np.asarray(image_size, np.float32)
    boxes = prediction["class_boxes"] * np.array([ratio[1], ratio[0]] * 2)
    return {"probabilities": prediction["probabilities"], "class_boxes": boxes.astype(np.float32)}


def _truth(example):
    """The label and the boxes (M,4) of its objects."""
    label = int(example["label"])
    return {"label": label, "boxes": np.asarray(example["boxes"])[np.asarray(example["classes"]) == label + 1]}


def _draw(image, result, names, threshold=0.5):
    """The true boxes, or that of the most probable class, with its name."""
    if "label" in result:
        boxes, label, scores = result["boxes"], result["label"], {}
    else:
        label = int(result["probabilities"].argmax())
        boxes, scores = result["class_boxes"][[label]], {"scores": result["probabilities"][[label]]}
    found = {"boxes": boxes, "classes": np.full(len(boxes), label + 1), **scores}
    return draw_detections(image, found, ("background", *names), 0.0)


def _records(name, result, names, count=5):
    """The most probable classes, each with its box."""
    order = np.argsort(-result["probabilities"], kind="stable")[:count]
    boxes = to_annotations({"boxes": result["class_boxes"][order], "classes": order})
    return [
        {"file_name": name, "class_name": names[k], "score": float(result["probabilities"][k]), "bbox": row["bbox"]}
        for k, row in zip(order, boxes)
    ]


LOCALIZATION = Task(
    name="localization",
    fields=("label", "boxes", "classes", "valid"),
    metric="loc/top1",
    class_names=label_names,
    result=_result,
    truth=_truth,
    evaluator=LocalizationEvaluator,
    draw=_draw,
    records=_records,
    check=check_object_of_label,
)
