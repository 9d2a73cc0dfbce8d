"""Semantic segmentation: a class for every pixel."""

import numpy as np

from jaxvision.data.sources import rows_by_id
from jaxvision.metrics.confusion import ConfusionMatrix
from jaxvision.tasks import Task
from jaxvision.visualize.segmentation import draw_segmentation


class SegmentationEvaluator:
    """FCN's four metrics and `iu/CLASS`, from one confusion matrix over all images given."""

    def __init__(self, source):
        self.source, self.rows = source, rows_by_id(source)
        self.matrix = ConfusionMatrix(len(source.class_names))

    def update(self, image_id, result):
        self.matrix.update(result["semantic"], self.source.annotations(self.rows[int(image_id)])["semantic"])

    def merge(self, other):
        self.matrix.merge(other.matrix)

    def compute(self):
        per_class = zip(self.source.class_names, self.matrix.table()["iu"])
        return self.matrix.compute() | {f"mean_iu/class/{name}": float(iu) for name, iu in per_class}


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
