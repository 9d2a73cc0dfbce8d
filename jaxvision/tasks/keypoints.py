"""Keypoint detection: boxes, and where the joints of each object are."""

import dataclasses
import functools

import numpy as np

from jaxvision.tasks.detection import DETECTION
from jaxvision.tasks.detection_evaluator import DetectionEvaluator
from jaxvision.visualize.detections import draw_detections
from jaxvision.visualize.skeletons import SKELETONS


def _result(prediction, image_size, original_size):
    """A detection's boxes, classes and scores with keypoints (n,K,3) and keypoint_scores (n,K)."""
    rows = np.flatnonzero(prediction["valid"])
    ratio = np.asarray(original_size, np.float32) / np.asarray(image_size, np.float32)
    return DETECTION.result(prediction, image_size, original_size) | {
        "keypoints": prediction["keypoints"][rows] * np.array([ratio[1], ratio[0], 1], np.float32),
        "keypoint_scores": prediction["keypoint_scores"][rows],
    }


def _truth(example):
    return DETECTION.truth(example) | {"keypoints": example["keypoints"]}


def _draw(image, result, class_names, threshold=0.5):
    edges = SKELETONS.get(np.shape(result["keypoints"])[1])
    return draw_detections(image, result, class_names, threshold, edges)


# Object keypoint similarity takes the source's sigmas, as COCO has it.
KEYPOINT_DETECTION = dataclasses.replace(
    DETECTION,
    name="keypoint_detection",
    fields=(*DETECTION.fields, "keypoints"),
    metric="keypoint/AP",
    result=_result,
    truth=_truth,
    evaluator=functools.partial(DetectionEvaluator, iou_types=("boxes", "keypoints")),
    draw=_draw,
)
