"""Tasks: what architectures of one kind share outside the device.

A task knows which batch fields it needs, what a prediction means in the pixels of the original image, how it is scored and
how it is drawn.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

Result = dict[str, Any]  # one image's prediction, numpy, in pixels of the original image


class Evaluator(Protocol):
    """What scores results. It may also have

    results: () to a list of JSON-able records, such as COCO's.
    report: () to a text of several lines, such as a table of the classes.
    pictures: () to {name: RGB picture, uint8}.
    """

    def update(self, image_id: int, result: Result) -> None: ...
    def merge(self, other: "Evaluator") -> None: ...
    def compute(self) -> dict[str, float]: ...


@dataclasses.dataclass(frozen=True)
class Task:
    """fields: of the batch, beside the image, that losses and scores need.

    metric: by which checkpoints are ranked unless a config names another.
    class_names: the names of an architecture's classes from a source.
    result: (prediction of one image, image_size, original_size) to a result in original pixels.
    truth: an example's annotations in the form of a result, to be drawn beside it.
    evaluator: a new evaluator for a source.
    draw: (image, result, class_names, threshold) to an RGB picture, uint8.
    records: (file name, result, class names) to a list of JSON-able records.
    check: called with each example before it is transformed; raises ExampleError for what the task cannot use. None: nothing.
    """

    name: str
    fields: Sequence[str]
    metric: str
    class_names: Callable[[Any], tuple[str, ...]]
    result: Callable[[Mapping[str, np.ndarray], Sequence[int], Sequence[int]], Result]
    truth: Callable[[Mapping[str, Any]], Result]
    evaluator: Callable[[Any], Evaluator]
    draw: Callable[[np.ndarray, Result, Sequence[str], float], np.ndarray]
    records: Callable[[str, Result, Sequence[str]], list[dict]]
    check: Callable[[Mapping[str, Any]], None] | None = None


TASKS = {
    "classification": "jaxvision.tasks.classification:CLASSIFICATION",
    "multi_label": "jaxvision.tasks.multi_label:MULTI_LABEL",
    "segmentation": "jaxvision.tasks.segmentation:SEGMENTATION",
    "detection": "jaxvision.tasks.detection:DETECTION",
    "region_detection": "jaxvision.tasks.detection:REGION_DETECTION",
    "instance_segmentation": "jaxvision.tasks.detection:INSTANCE_SEGMENTATION",
    "keypoint_detection": "jaxvision.tasks.keypoints:KEYPOINT_DETECTION",
    "map_localization": "jaxvision.tasks.map_localization:MAP_LOCALIZATION",
    "localization": "jaxvision.tasks.localization:LOCALIZATION",
    "pose": "jaxvision.tasks.pose:POSE",
    "region_pose": "jaxvision.tasks.pose:REGION_POSE",
}


def get(name: str) -> Task:
    """The task of that name. Raises KeyError for another."""
    module, attribute = TASKS[name].split(":")
    return getattr(importlib.import_module(module), attribute)
