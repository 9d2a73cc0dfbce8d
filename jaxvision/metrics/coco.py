"""COCO's average precision of boxes, masks and keypoints, scored by pycocotools."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxvision.data.coco import COCO_SIGMAS, to_annotations

# What one kind is called in metric names and by pycocotools, and the annotation's field it needs.
KINDS = {
    "boxes": ("box", "bbox", "bbox"),
    "masks": ("mask", "segm", "segmentation"),
    "keypoints": ("keypoint", "keypoints", "keypoints"),
}
STATISTICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
KEYPOINT_STATISTICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


class CocoEvaluator:
    """Collects detections image by image, against the ground truth that the source holds at original resolution.

    Scored are the images that `update` was given, and only these: one with no detections must be given too, with empty
    arrays. An image given twice counts once, by its last result. Boxes are scored always; masks and keypoints where the
    source has them and the results carried them. Crowds are ignore regions, as COCO has it; `difficult` is not heeded:
    VOC's scores do that.
    """

    def __init__(self, source, iou_types=("boxes", "masks", "keypoints")):
        unknown = set(iou_types) - set(KINDS)
        if unknown:
            raise ValueError(f"unknown iou_types {sorted(unknown)}; there are: {', '.join(KINDS)}")
        self.source, self.iou_types = source, tuple(iou_types)
        # Sources may list their image ids; for one that does not, they are read once from its annotations.
        image_ids = getattr(source, "image_ids", None)
        if image_ids is None:
            image_ids = [source.annotations(i)["image_id"] for i in range(len(source))]
        self.rows = {int(image_id): i for i, image_id in enumerate(image_ids)}
        self.truth: dict[int, list] = {}
        self.detections: dict[int, list] = {}
        self.carried: set[str] = set()

    def update(self, image_id, result) -> None:
        """Takes the detections of one image, numpy arrays in original pixels.

        `boxes` (n, 4) x1 y1 x2 y2, `classes` (n,) in 1..K, `scores` (n,), and if the detector gives them `masks`
        (n, H, W) bool and `keypoints` (n, K, 3), whose third column is not used. Masks are kept as RLE.
        Raises ValueError for an unknown image, other shapes, classes or mask sizes, and values that are not finite.
        """
        image_id = int(image_id)
        if image_id not in self.rows:
            raise ValueError(f"image {image_id} is not in {self.source.name}")
        truth = self.source.annotations(self.rows[image_id])
        self._check(image_id, result, truth)
        self._take(image_id, result, truth)

    def _take(self, image_id, result, truth) -> None:
        """What `update` does with a result that fits its truth; for subclasses to add to."""
        self.truth[image_id] = to_annotations(truth)
        rows = to_annotations({k: v for k, v in result.items() if k in ("boxes", "classes", "masks", "keypoints")})
        self.detections[image_id] = [row | {"score": float(s)} for row, s in zip(rows, result["scores"])]
        self.carried |= {kind for kind in self.iou_types if kind in result and kind in truth}

    def merge(self, other: "CocoEvaluator") -> None:
        self.truth |= other.truth
        self.detections |= other.detections
        self.carried |= other.carried

    def compute(self) -> dict[str, float]:
        """Metrics by name: `box/AP, box/AP50, ..., box/AR100, box/ARl`, `mask/...`, `keypoint/AP ... keypoint/ARl`.

        And `box/AP/<class name>` for each class. A metric without any ground truth (a class or a size that the images
        do not show) is nan, where pycocotools says -1. No detections at all is 0. Raises ValueError if no image was
        given.
        """
        if not self.truth:
            raise ValueError("no image was given to update, so there is nothing to score")
        metrics = {}
        for kind in self.iou_types:
            if kind in self.carried:
                metrics |= self._score(kind)
        return metrics

    def results(self) -> list[dict]:
        """The detections in COCO's results format, with the source's category ids where it keeps a table of them."""
        table = getattr(self.source, "category_ids", None)
        return [
            {
                "image_id": image_id,
                "category_id": int(row["category_id"] if table is None else table[row["category_id"]]),
                "score": row["score"],
                **{field: row[field] for _, _, field in KINDS.values() if field in row},
            }
            for image_id, rows in self.detections.items()
            for row in rows
        ]

    def _check(self, image_id, result, truth):
        where = f"result of image {image_id}"
        count = len(result["boxes"])
        shapes = {"boxes": (count, 4), "classes": (count,), "scores": (count,)}
        if "masks" in result and "masks" in truth:
            shapes["masks"] = (count, *truth["masks"].shape[1:])
        if "keypoints" in result and "keypoints" in truth:
            shapes["keypoints"] = (count, *truth["keypoints"].shape[1:])
        for name, shape in shapes.items():
            if np.shape(result[name]) != shape:
                raise ValueError(f"{where}: {name} have shape {np.shape(result[name])}, expected {shape}")
            if name != "masks" and not np.isfinite(result[name]).all():
                raise ValueError(f"{where}: {name} hold NaN or infinity")
        last = len(self.source.class_names) - 1
        for n, label in enumerate(result["classes"]):
            if not 1 <= label <= last:
                raise ValueError(f"{where}, row {n}: class {label}, expected 1..{last} (0 is background)")

    def _score(self, kind) -> dict[str, float]:
        name, iou_type, field = KINDS[kind]
        without = [i for i, rows in self.detections.items() if any(field not in row for row in rows)]
        if without:
            raise ValueError(f"images {without[:5]} were given detections without {kind}, others with {kind}")
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints tables
            evaluation = COCOeval(self._index(self.truth), self._index(self.detections, field), iou_type)
            if kind == "keypoints":
                evaluation.params.kpt_oks_sigmas = self._sigmas()
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        statistics = KEYPOINT_STATISTICS if kind == "keypoints" else STATISTICS
        metrics = dict(zip((f"{name}/{statistic}" for statistic in statistics), evaluation.stats))
        precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class; all areas, most detections
        for c, class_name in enumerate(self.source.class_names[1:]):
            metrics[f"{name}/AP/{class_name}"] = precision[:, :, c].mean()
        return {key: float(value) if value >= 0 else float("nan") for key, value in metrics.items()}

    def _sigmas(self):
        sigmas = self.source.sigmas
        if sigmas is None and len(self.source.keypoint_names) == len(COCO_SIGMAS):
            return COCO_SIGMAS
        if sigmas is None:
            raise ValueError(f"{self.source.name} gives no sigmas, without which keypoints cannot be scored")
        return np.asarray(sigmas, np.float64)

    def _index(self, images, field=None) -> COCO:
        """A COCO index of annotations by image; with `field`, of detections that hold it alone beside their score.

        pycocotools takes the size of a detection from its `area`, which must be that of what is scored.
        """
        index = COCO()
        annotations = [{**row, "image_id": image_id} for image_id, rows in images.items() for row in rows]
        index.dataset = {
            # Sizes are asked for, though only polygons would need them.
            "images": [{"id": image_id, "height": 0, "width": 0} for image_id in self.truth],
            "categories": [{"id": c} for c in range(1, len(self.source.class_names))],
            # From 1: pycocotools takes id 0 for "not matched".
            "annotations": [{**row, "id": n} for n, row in enumerate(annotations, 1)],
        }
        index.createIndex()
        if field is None or not annotations:
            return index
        keys = ("image_id", "category_id", "score", field)
        return index.loadRes([{key: row[key] for key in keys} for row in annotations])
