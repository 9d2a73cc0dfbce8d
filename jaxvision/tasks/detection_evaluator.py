"""How detections are scored: COCO's AP, VOC's where a set has difficult objects, and what the errors are."""

import numpy as np

from jaxvision.metrics.coco import CocoEvaluator
from jaxvision.metrics.detection_confusion import DetectionConfusion
from jaxvision.metrics.error_types import TYPES, ErrorTypes
from jaxvision.metrics.voc import VocAP
from jaxvision.tasks.report import lines
from jaxvision.visualize.confusion import draw_confusion
from jaxvision.visualize.curves import draw_curves
from jaxvision.visualize.shares import draw_shares

COLOURS = dict(
    zip(TYPES, ((70, 150, 80), (60, 110, 190), (235, 170, 50), (210, 110, 40), (190, 50, 50), (190, 190, 190)))
)


class DetectionEvaluator(CocoEvaluator):
    """`CocoEvaluator`, and of the boxes

    voc07/AP50, voc10/AP50, each with /NAME of a class: VOC's, where annotations hold `difficult` (see `VocAP`).
    correct@N, errors/localisation, similar, other, background, missing: shares of the N best detections of a class that has
    N objects, the mean over classes (see `ErrorTypes`). groups: of similar classes; by default VOC's for VOC's names.

    Pictures: `confusion` of detections from a score of 0.5 on (see `DetectionConfusion`), `precision_recall` at IoU 0.5 by
    VOC's rule, the area under each curve beside its name, and `error_types`.
    """

    def __init__(self, source, iou_types=("boxes", "masks", "keypoints"), groups=None):
        super().__init__(source, iou_types)
        self.names, self.marked = tuple(source.class_names), False
        self.parts = VocAP(self.names), ErrorTypes(self.names, groups), DetectionConfusion(len(self.names))
        self.voc, self.errors, self.confusion = self.parts

    def _take(self, image_id, result, truth):
        super()._take(image_id, result, truth)
        self.marked |= "difficult" in truth
        for part in self.parts:
            part.update(image_id, result, truth)

    def merge(self, other):
        super().merge(other)
        self.marked |= other.marked
        for part, others in zip(self.parts, other.parts):
            part.merge(others)

    def compute(self):
        scores = super().compute()
        return scores | (self.voc.compute() if self.marked else {}) | self.errors.compute()

    def report(self):
        """A line for each class, to be printed: its objects, VOC's AP of 2010, and the shares of its N best detections."""
        counts = self._types()
        objects = counts.sum(1)
        with np.errstate(invalid="ignore"):
            shares = dict(zip(self.errors.types, (counts / objects[:, None]).T))
        columns = {"objects": objects, "AP50": self.voc.table()["voc10"], **shares}
        return "\n".join(lines("class", self.names[1:], columns))

    def pictures(self):
        table, types, curves = self._types(), self.errors.types, []
        for recall, precision in self.voc.curves():
            known = len(recall) and not np.isnan(recall).any()
            # From recall 0 on, at the precision of the best detection.
            curves.append((np.r_[0, recall], np.r_[precision[0], precision]) if known else ((), ()))
        precisions = ["no objects" if np.isnan(p) else f"{p:.3f}" for p in self.voc.table()["voc10"]]
        titles = [f"{name} {precision}" for name, precision in zip(self.names[1:], precisions)]
        shares = [row / row.sum() for row in table if row.any()]
        mean = np.mean(shares, axis=0) if shares else np.zeros(len(types))
        return {
            "confusion": draw_confusion(self.confusion.matrix, self.names),
            "precision_recall": draw_curves(curves, titles, ("recall", "precision")),
            "error_types": draw_shares(
                [mean, *table],
                ("mean", *self.names[1:]),
                types,
                [COLOURS[name] for name in types],
                ("%", *(f"of {count}" for count in table.sum(axis=1))),
            ),
        }

    def _types(self):
        """(K, types) the counts of the types that there can be."""
        return self.errors.table()[:, [TYPES.index(name) for name in self.errors.types]]
