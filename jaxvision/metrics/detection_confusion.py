"""Which class's objects are detected as which, which are missed, and what is detected where nothing is."""

import numpy as np

from jaxvision.data.overlaps import covered, iou
from jaxvision.metrics.overlaps import marks


class DetectionConfusion:
    """Counts of (class of the object, class detected); 0, the background's place, holds what has no counterpart.

    Looked at are detections from the score `least` on. From the best to the worst each takes the free object that it overlaps
    most, by `threshold` or more, whatever its class. `matrix` is (C, C), rows truth: column 0 are objects that nothing
    found, row 0 detections of no object, repeated ones among them. Detections of difficult objects, and those that lie by
    the threshold of themselves in a crowd, count nowhere, nor do these objects.
    """

    def __init__(self, num_classes: int, least: float = 0.5, threshold: float = 0.5):
        self.num_classes, self.least, self.threshold = num_classes, least, threshold
        self.images: dict[int, np.ndarray] = {}

    def update(self, image_id, result, truth) -> None:
        """Takes the detections of an image and its truth, as `jaxvision.metrics.overlaps.judge` does. The last counts."""
        boxes, classes, scores = (np.asarray(result[name]) for name in ("boxes", "classes", "scores"))
        objects = np.asarray(truth["classes"]).astype(int)
        difficult, crowd = marks(truth)
        overlaps = np.where(crowd, -1, iou(boxes, truth["boxes"]))
        excused = ((covered(boxes, truth["boxes"]) >= self.threshold) & crowd).any(axis=1)
        found, pairs = np.zeros(len(objects), bool), []
        for n in np.argsort(-scores, kind="stable"):
            if scores[n] < self.least:
                break
            free = np.where(found, -1, overlaps[n])
            best = int(free.argmax()) if len(objects) else 0
            if len(objects) and free[best] >= self.threshold:
                found[best] = True
                if not difficult[best]:
                    pairs.append((objects[best], classes[n]))
            elif not excused[n]:
                pairs.append((0, classes[n]))
        pairs += [(label, 0) for label in objects[~(found | difficult | crowd)]]
        self.images[int(image_id)] = np.array(pairs, int).reshape(-1, 2)

    def merge(self, other: "DetectionConfusion") -> None:
        self.images |= other.images

    @property
    def matrix(self) -> np.ndarray:
        matrix = np.zeros((self.num_classes,) * 2, int)
        for pairs in self.images.values():
            np.add.at(matrix, tuple(pairs.T), 1)
        return matrix
