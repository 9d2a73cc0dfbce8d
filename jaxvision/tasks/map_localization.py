"""Localisation by maps: the class of the image, and a box made of that class's map of evidence."""

import numpy as np

from jaxvision.data.sources import label_names, rows_by_id
from jaxvision.metrics.classification import TopK
from jaxvision.metrics.localization import Localization
from jaxvision.metrics.max_box_acc import THRESHOLDS, MaxBoxAcc, score_map
from jaxvision.metrics.pointing import PointingGame
from jaxvision.metrics.pxap import PixelAP
from jaxvision.metrics.score_maps import CAM, component_box, resize_map
from jaxvision.tasks import Task
from jaxvision.tasks.classification import best
from jaxvision.tasks.report import lines
from jaxvision.visualize.classification import draw_classification
from jaxvision.visualize.curves import draw_curves
from jaxvision.visualize.detections import draw_detections
from jaxvision.visualize.heatmaps import draw_heatmap
from jaxvision.visualize.layout import enlargement


class MapLocalizationEvaluator:
    """top1 and, of more than five classes, top5. Where the source has boxes, `Localization` with boxes by `component_box` of
    the maps at the image's size, `MaxBoxAcc` and `pointing`, on masks where there are any, else on boxes. Where it has
    masks, pxap; pixels that are 255 in `semantic` are ignored.

    All look at the map of the image's label. threshold: of the boxes, a share of the map's maximum.
    """

    def __init__(self, source, threshold: float = CAM):
        self.source, self.rows, self.names = source, rows_by_id(source), label_names(source)
        self.threshold = threshold
        self.top = TopK((1, 5) if len(self.names) > 5 else (1,))
        self.found, self.boxes = Localization(len(self.names)), MaxBoxAcc()
        self.pointing, self.pixels = PointingGame(len(self.names)), PixelAP()
        self.parts = self.top, self.found, self.boxes, self.pointing, self.pixels

    def update(self, image_id, result):
        truth = self.source.annotations(self.rows[int(image_id)])
        label, probabilities, size = truth["label"], result["probabilities"], tuple(result["size"])
        if result["class_maps"].shape[-1] != len(self.names):
            raise ValueError(f"there are {result['class_maps'].shape[-1]} maps for {len(self.names)} classes")
        rows = np.asarray(truth.get("classes", ())) == label + 1
        if "boxes" in truth and not rows.any():
            raise ValueError(f"image {image_id} has no box of its class, {self.names[label]}; take it out of the split")
        self.top.update(probabilities[None], np.array([label]))
        if "boxes" not in truth:
            return
        objects, evidence = np.asarray(truth["boxes"])[rows], result["class_maps"][..., label]
        large, score = resize_map(evidence, size), score_map(evidence)
        boxes = np.zeros((len(self.names), 4))  # of other classes nothing depends on the box
        boxes[label] = component_box(large, self.threshold)
        self.found.update(probabilities, boxes, label, objects)
        self.boxes.update(score, objects, size)
        if "masks" in truth:
            mask = np.asarray(truth["masks"])[rows].any(axis=0)
            self.pixels.update(score, mask, truth["semantic"] == 255 if "semantic" in truth else None)
        else:
            mask = np.any([_filled(box, size) for box in objects], axis=0)
        self.pointing.update(large, label, mask)

    def merge(self, other):
        for part, others in zip(self.parts, other.parts):
            part.merge(others)

    def compute(self):
        scores = self.top.compute()
        if self.boxes.count:
            found = self.found.compute() | self.boxes.compute() | {"pointing": self.pointing.compute()}
            scores = found | scores  # top-1 of all images, with a box or without
        if self.pixels.inside.any():
            scores["pxap"] = self.pixels.compute()
        return scores

    def report(self):
        """A line for each class, to be printed: its images, and the shares whose box and whose highest place are right."""
        found = {"loc/gt_known": self.found.corloc.table(), "pointing": self.pointing.table()}
        return "\n".join(lines("class", self.names, {"images": self.pointing.maps, **found}))

    def pictures(self):
        """`box_accuracy` over thresholds, at three IoUs, and `pixel_precision_recall`, as far as the source has the truth."""
        pictures = {}
        if self.boxes.count:
            curves = self.boxes.curves()
            names = [f"IoU {iou:.1f}, at best {curve.max():.3f}" for iou, curve in curves.items()]
            lines = [(THRESHOLDS, curve) for curve in curves.values()]
            pictures["box_accuracy"] = draw_curves(lines, names, ("threshold", "boxes that are right"))
        if self.pixels.inside.any():
            curve, area = self.pixels.curve(), self.pixels.compute()
            pictures["pixel_precision_recall"] = draw_curves([curve], [f"area {area:.3f}"], ("recall", "precision"))
        return pictures


def _filled(box, size):
    mask = np.zeros(size, bool)
    x1, y1, x2, y2 = np.rint(box).astype(int)
    mask[y1:y2, x1:x2] = True
    return mask


def _result(prediction, image_size, original_size):
    """probabilities (K,), class_maps (h,w,K) float32 on a grid over the image alone, and size, its height and width."""
    extent = prediction["map_extent"]
    grid = np.maximum(1, np.rint(extent)).astype(int)
    return {
        "probabilities": prediction["probabilities"],
        "class_maps": resize_map(prediction["class_maps"], grid, extent).astype(np.float32),
        "size": np.array(original_size),
    }


def _truth(example):
    """The label, and where there are boxes those of its objects."""
    truth = {"label": int(example["label"])}
    if "boxes" in example:
        truth["boxes"] = np.asarray(example["boxes"])[np.asarray(example["classes"]) == truth["label"] + 1]
    return truth


def _box(result, label):
    return component_box(resize_map(result["class_maps"][..., label], tuple(result["size"])))


def _draw(image, result, names, threshold=0.5):
    """The map of the most probable class over the image, the box found and, as far as known, the true ones."""
    truth = result.get("truth", {}) if "class_maps" in result else result
    picture, factor, boxes = image, 1, list(truth.get("boxes", ()))
    rows, titles = [2] * len(boxes), ["", "", f"true {names[truth['label']]}" if truth else ""]
    if "class_maps" in result:  # what was found lies on top
        label = int(np.argmax(result["probabilities"]))
        picture, factor = draw_heatmap(image, result["class_maps"][..., label]), enlargement(image.shape)
        boxes, rows = [*boxes, _box(result, label)], [*rows, 1]
        titles[1] = f"{names[label]} {result['probabilities'][label]:.2f}"
    elif not boxes:
        return draw_classification(image, [(names[truth["label"]], 1.0)])
    return draw_detections(picture, {"boxes": np.array(boxes) * factor, "classes": rows}, titles)


def _records(name, result, names):
    rows = []
    for label, score in best(result, names):
        x1, y1, x2, y2 = _box(result, names.index(label)).tolist()
        rows.append({"file_name": name, "class_name": label, "score": score, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    return rows


MAP_LOCALIZATION = Task(
    name="map_localization",
    fields=("label",),
    metric="loc/top1",
    class_names=label_names,
    result=_result,
    truth=_truth,
    evaluator=MapLocalizationEvaluator,
    draw=_draw,
    records=_records,
)
