"""Detection: boxes, classes and scores, and instance masks where an architecture gives them."""

import dataclasses
import functools

import numpy as np

from jaxvision.data.coco import to_annotations
from jaxvision.ops.masks import paste_masks
from jaxvision.tasks import Task
from jaxvision.tasks.detection_evaluator import DetectionEvaluator
from jaxvision.visualize.detections import draw_detections
from jaxvision.visualize.layout import enlargement
from jaxvision.visualize.proposals import draw_proposals

MASK_THRESHOLD = 0.5


def _result(prediction, image_size, original_size, paste="aligned"):
    """boxes (n,4), classes, scores (n,), best first, and masks (n,H,W) bool, of the rows that are valid."""
    rows = np.flatnonzero(prediction["valid"])
    ratio = np.asarray(original_size, np.float32) / np.asarray(image_size, np.float32)
    boxes = prediction["boxes"][rows] * np.array([ratio[1], ratio[0]] * 2)
    result = {
        "boxes": boxes.astype(np.float32),
        "classes": prediction["classes"][rows],
        "scores": prediction["scores"][rows],
    }
    if "masks" in prediction:
        height, width = (int(side) for side in original_size)
        result["masks"] = paste_masks(prediction["masks"][rows], boxes, height, width, paste) > MASK_THRESHOLD
    return result


def _truth(fields, example):
    return {name: example[name] for name in fields if name in example} | {"scores": np.ones(len(example["boxes"]))}


def _records(name, result, class_names):
    rows = to_annotations({k: v for k, v in result.items() if k != "scores"})
    return [
        {"file_name": name, **row, "class_name": class_names[row["category_id"]], "score": float(score)}
        for row, score in zip(rows, result["scores"])
    ]


def _draw(image, result, class_names, threshold=0.5):
    if "proposals" in result:
        factor = enlargement(image.shape)
        image, result = draw_proposals(image, result["proposals"]), {**result, "boxes": result["boxes"] * factor}
    return draw_detections(image, result, class_names, threshold)


DETECTION = Task(
    name="detection",
    fields=("boxes", "classes", "valid"),
    metric="box/AP",
    class_names=lambda source: tuple(source.class_names),
    result=_result,
    truth=functools.partial(_truth, ("boxes", "classes")),
    evaluator=functools.partial(DetectionEvaluator, iou_types=("boxes",)),
    draw=_draw,
    records=_records,
)
REGION_DETECTION = dataclasses.replace(  # of networks that look at regions which somebody else proposes
    DETECTION,
    name="region_detection",
    fields=(*DETECTION.fields, "proposals", "proposals_valid"),
    truth=functools.partial(_truth, ("boxes", "classes", "proposals")),
)
INSTANCE_SEGMENTATION = dataclasses.replace(
    DETECTION,
    name="instance_segmentation",
    fields=(*DETECTION.fields, "masks", "mask_boxes"),
    metric="mask/AP",
    truth=functools.partial(_truth, ("boxes", "classes", "masks")),
    evaluator=functools.partial(DetectionEvaluator, iou_types=("boxes", "masks")),
)
