"""Test-time augmentation: one image seen several times, mirrored and at other scales, and the results made one."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxvision.data.geometry import mirror
from jaxvision.metrics.score_maps import resize_map
from jaxvision.tasks import Result


@dataclasses.dataclass(frozen=True)
class TTA:
    """Views of an image and how their results are joined.

    flip: each view also mirrored left and right; `flip_pairs` are the joints that change places.
    scales: factors of the size that the image is resized to.
    fusion: of boxes of one class that overlap by an IoU of more than `iou`. "nms" keeps the best; "weighted" takes the mean
      by score, and as score the sum over the views' boxes divided by the number of views (Solovyev, Wang & Gabruseva,
      "Weighted boxes fusion", Image and Vision Computing 2021). Masks and joints of such boxes are joined in either: a
      pixel is in the mask where those that hold it have more than half of the scores; joints take the mean by score.
    detections: most boxes of an image.

    Probabilities, of classifiers and for each pixel of segmenters, are averaged, and so are the box of each class and the
    joints of a pose; those of pixels by `Predictor`, which adds them up as they come. So are maps of classes, on the grid of the
    first view. Raises ValueError for another fusion.
    """

    flip: bool = True
    scales: Sequence[float] = (1.0,)
    fusion: str = "nms"
    iou: float = 0.55
    detections: int = 100
    flip_pairs: Sequence[tuple[int, int]] = ()

    def __post_init__(self):
        if self.fusion not in ("nms", "weighted"):
            raise ValueError(f'fusion is {self.fusion!r}; "nms" and "weighted" exist.')
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales must be positive factors, got {self.scales!r}.")

    def views(self) -> list[tuple[float, bool]]:
        """(scale, mirrored) of each view."""
        return [(scale, mirrored) for scale in self.scales for mirrored in ((False, True) if self.flip else (False,))]

    def unmirror(self, result: Result, width: int) -> Result:
        """A result of the mirrored image, of that width, for the image itself."""
        if ("keypoints" in result or "joints" in result) and not self.flip_pairs:
            raise ValueError("A mirrored person's left is right: give flip_pairs, or flip=False.")
        image = np.empty((1, width, 0))
        result = mirror({**result, "image": image}, self.flip_pairs)
        if "joints" in result:
            alone = mirror({"keypoints": result["joints"][None], "image": image}, self.flip_pairs)
            result["joints"] = alone["keypoints"][0]
        if "class_boxes" in result:
            result["class_boxes"] = mirror({"boxes": result["class_boxes"], "image": image})["boxes"]
        if "keypoint_scores" in result:
            order = np.arange(result["keypoint_scores"].shape[1])
            for left, right in self.flip_pairs:
                order[[left, right]] = right, left
            result["keypoint_scores"] = result["keypoint_scores"][:, order]
        if "class_maps" in result:
            result["class_maps"] = result["class_maps"][:, ::-1]
        del result["image"]
        return result

    def fuse(self, results: Sequence[Result]) -> Result:
        """One result from those of an image's views."""
        if "boxes" in results[0]:
            return self._fuse_boxes(results)
        if "class_maps" not in results[0]:
            return {name: np.mean([result[name] for result in results], 0) for name in results[0]}
        grid = results[0]["class_maps"].shape[:2]
        maps = np.mean([resize_map(result["class_maps"], grid) for result in results], 0)
        probabilities = np.mean([result["probabilities"] for result in results], 0)
        return {**results[0], "probabilities": probabilities, "class_maps": maps}

    def _fuse_boxes(self, results: Sequence[Result]) -> Result:
        every = {name: np.concatenate([result[name] for result in results]) for name in results[0]}
        order = np.argsort(-every["scores"], kind="stable")
        every = {name: values[order] for name, values in every.items()}
        groups = _groups(every["boxes"], every["classes"], self.iou)
        rows = [self._join({name: values[group] for name, values in every.items()}, len(results)) for group in groups]
        rows.sort(key=lambda row: -row["scores"])
        joined = [np.stack([row[name] for row in rows[: self.detections]]) if rows else every[name] for name in every]
        return {name: values.astype(every[name].dtype) for name, values in zip(every, joined)}

    def _join(self, group: Result, views: int) -> Result:
        """The boxes of one object, best first, as one row."""
        row = {name: values[0] for name, values in group.items()}
        weights = group["scores"] / group["scores"].sum()
        if self.fusion == "weighted":
            row["boxes"] = weights @ group["boxes"]
            row["scores"] = np.minimum(group["scores"].sum() / views, group["scores"].max())
        if "masks" in group:
            row["masks"] = np.tensordot(weights, group["masks"], 1) > 0.5
        if "keypoints" in group:
            row["keypoints"] = np.tensordot(weights, group["keypoints"], 1)
        if "keypoint_scores" in group:
            row["keypoint_scores"] = weights @ group["keypoint_scores"]
        return row


def _groups(boxes: np.ndarray, classes: np.ndarray, threshold: float) -> list[np.ndarray]:
    """Rows, best first, in groups: each goes to its class's best group leader that it overlaps enough, or leads one."""
    left, groups = np.arange(len(boxes)), []
    while len(left):
        leader = left[0]
        together = (_iou(boxes[leader], boxes[left]) > threshold) & (classes[left] == classes[leader])
        together[0] = True
        groups.append(left[together])
        left = left[~together]
    return groups


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of one box with each of `boxes`. Numpy: a compilation for every number of boxes would cost seconds."""
    sides = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    intersection = sides.prod(1)
    return intersection / np.maximum(areas + (box[2:] - box[:2]).prod() - intersection, np.finfo(np.float32).tiny)
