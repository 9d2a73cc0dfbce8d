"""Semantic segmentation: a class for every pixel."""

import numpy as np

from jaxvision.data.sources import rows_by_id
from jaxvision.metrics.confusion import ConfusionMatrix
from jaxvision.metrics.trimap import TrimapIU
from jaxvision.tasks import Task
from jaxvision.tasks.report import lines
from jaxvision.visualize.confusion import draw_confusion
from jaxvision.visualize.segmentation import draw_segmentation


class SegmentationEvaluator:
    """FCN's four metrics from one confusion matrix over all images given, and beside them

    mean_binary_accuracy: the mean over all classes of (true positives + true negatives) / pixels, also those that are nowhere.
    per_image_iou: the mean over images of the mean IU of the classes that are in that image's truth or prediction.
    trimap_iu@WIDTH: the mean IU near the borders of the truth, see `TrimapIU`.
    mean_iu/class/NAME, binary_accuracy/class/NAME: of each class.

    Ignored pixels count nowhere, and an image that holds nothing else is no image.
    """

    def __init__(self, source):
        self.source, self.rows, self.names = source, rows_by_id(source), source.class_names
        self.matrix, self.trimap, self.images = ConfusionMatrix(len(self.names)), TrimapIU(len(self.names)), []

    def update(self, image_id, result):
        truth = self.source.annotations(self.rows[int(image_id)])["semantic"]
        image = ConfusionMatrix(len(self.names))
        image.update(result["semantic"], truth)
        if image.matrix.any():
            self.images.append(image.compute()["mean_iu"])
        self.matrix.merge(image)
        self.trimap.update(result["semantic"], truth)

    def merge(self, other):
        self.matrix.merge(other.matrix)
        self.trimap.merge(other.trimap)
        self.images += other.images

    def compute(self):
        scores, table = self.matrix.compute(), self.matrix.table()
        scores |= {
            "mean_binary_accuracy": float(table["binary_accuracy"].mean()),
            "per_image_iou": float(np.mean(self.images)),
        }
        for metric, column in (("mean_iu", "iu"), ("binary_accuracy", "binary_accuracy")):
            scores |= {f"{metric}/class/{name}": float(value) for name, value in zip(self.names, table[column])}
        return scores | self.trimap.compute()

    def report(self):
        """A line for each class, to be printed."""
        return "\n".join(lines("class", self.names, self.matrix.table()))

    def pictures(self):
        return {"confusion": draw_confusion(self.matrix.matrix, self.names)}


def _result(prediction, image_size, original_size):
    """semantic (H,W): the map of the canvas's valid part, by the nearest pixel where the image was resized."""
    (height, width), (original_height, original_width) = image_size, original_size
    rows = ((np.arange(original_height) + 0.5) * height / original_height).astype(int)
    columns = ((np.arange(original_width) + 0.5) * width / original_width).astype(int)
    return {"semantic": prediction["semantic"][rows[:, None], columns]}


def _records(name, result, class_names):
    classes, counts = np.unique(result["semantic"], return_counts=True)
    share = {class_names[c]: float(n / result["semantic"].size) for c, n in zip(classes, counts)}
    return [{"file_name": name, "share_of_pixels": share}]


def _draw(image, result, class_names, threshold=0.5):
    return draw_segmentation(image, result["semantic"], class_names)


SEGMENTATION = Task(
    name="segmentation",
    fields=("semantic",),
    metric="mean_iu",
    class_names=lambda source: tuple(source.class_names),
    result=_result,
    truth=lambda example: {"semantic": example["semantic"]},
    evaluator=SegmentationEvaluator,
    draw=_draw,
    records=_records,
)
