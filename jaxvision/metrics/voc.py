"""PASCAL VOC's average precision, by its rule of 2007 and by that of 2010 and later.

Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010.
"""

import numpy as np

from jaxvision.metrics.overlaps import judge

# As others' evaluators have them: 0.3, 0.6 and 0.7 among them are larger than these numbers in the last bit.
POINTS = np.arange(0, 1.1, 0.1)


class VocAP:
    """Collects detections image by image; `jaxvision.metrics.overlaps.judge` says which are right.

    Difficult objects are not to be found, and what finds them is neither right nor wrong. Detections of equal score stand in
    the order of the images' ids, then of their rows. An image given twice counts once, by its last result.
    """

    def __init__(self, class_names, threshold: float = 0.5):
        self.class_names, self.threshold = tuple(class_names), threshold
        self.images: dict[int, tuple] = {}

    def update(self, image_id, result, truth) -> None:
        """Takes the detections of an image, `boxes` (n, 4), `classes` in 1..K and `scores`, and its truth, as `judge`."""
        judged = judge(result, truth, self.threshold)
        kept = ~judged.aside
        objects = np.bincount(judged.objects[judged.counted], minlength=len(self.class_names))
        self.images[int(image_id)] = objects, judged.classes[kept], judged.scores[kept], judged.right[kept]

    def merge(self, other: "VocAP") -> None:
        self.images |= other.images

    def objects(self) -> np.ndarray:
        """(C,) the number of each class's objects that are to be found."""
        return np.sum([objects for objects, *_ in self.images.values()], axis=0)

    def curves(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Recall and precision (n,) of each class, the background left out, after each of its detections from the best on.

        Where a class has no objects, recall is nan.
        """
        images = [self.images[image_id] for image_id in sorted(self.images)]
        classes, scores, right = (np.concatenate(rows) for rows in list(zip(*images))[1:])
        order = np.argsort(-scores, kind="stable")
        classes, right = classes[order], right[order]
        curves = []
        for label, count in enumerate(self.objects()[1:], 1):
            hits = np.cumsum(right[classes == label])
            curves.append((hits / count if count else np.full(len(hits), np.nan), hits / np.arange(1, len(hits) + 1)))
        return curves

    def table(self) -> dict[str, np.ndarray]:
        """(K,) average precisions of each class by rule, "voc07" and "voc10"; nan for a class without objects."""
        precisions = np.array([(eleven_points(*c), area(*c)) for c in self.curves()]).reshape(-1, 2)
        precisions[self.objects()[1:] == 0] = np.nan
        return dict(zip(("voc07", "voc10"), precisions.T))

    def compute(self) -> dict[str, float]:
        """`voc07/AP50`, `voc10/AP50`, and `voc07/AP50/NAME` of each class, nan for one without objects, which the mean over
        classes leaves out. The number is the threshold in percent. Raises ValueError if no image was given.
        """
        if not self.images:
            raise ValueError("no image was given to update, so there is nothing to score")
        metrics = {}
        for rule, precisions in self.table().items():
            name = f"{rule}/AP{100 * self.threshold:.0f}"
            metrics[name] = mean_of_known(precisions)
            metrics |= {f"{name}/{label}": float(p) for label, p in zip(self.class_names[1:], precisions)}
        return metrics


def eleven_points(recall, precision) -> float:
    """The mean over recalls 0, 0.1, ... 1 of the best precision there or beyond: VOC's rule to 2009."""
    return float(np.mean([precision[recall >= point].max(initial=0) for point in POINTS]))


def area(recall, precision) -> float:
    """The area under the precision made monotone, at every change of recall: VOC's rule from 2010 on."""
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * highest).sum())


def mean_of_known(values) -> float:
    """The mean of what is not nan; nan where nothing is."""
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
