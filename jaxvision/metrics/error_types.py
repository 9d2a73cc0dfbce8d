"""What is wrong with a detector's best detections: their place, their class, or that there is nothing.

Hoiem, Chodpathumwan & Dai, Diagnosing Error in Object Detectors, ECCV 2012, in the form of Redmon et al., You Only Look Once,
CVPR 2016.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from jaxvision.data.voc import CLASSES
from jaxvision.metrics.overlaps import judge
from jaxvision.metrics.voc import mean_of_known

TYPES = ("correct", "localisation", "similar", "other", "background", "missing")
TOUCHES = 0.1  # IoU from which a wrong detection is of an object rather than of the background
# Hoiem et al.: classes that resemble one another; aeroplane and bird are of two groups.
VOC_GROUPS = (
    ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    ("chair", "diningtable", "sofa"),
    ("aeroplane", "bird"),
)


class ErrorTypes:
    """Of each class the best N detections are looked at, where N is the number of its objects, and each is

    correct: of the object's class, with an IoU above 0.5, and the first of that object.
    localisation: an IoU of 0.1 or more with an object of its class, or one more detection of an object that is found.
    similar: of another class, which resembles it, with an IoU of 0.1 or more; other: of any other.
    background: no object is overlapped by as much.
    missing: where there are fewer than N detections, what lacks. The papers have no such type.

    Difficult objects are not among the N and what finds them is left out; so is what lies in a crowd of its class.
    groups: of names that are similar; by default VOC's where the names are VOC's, else none.
    Raises ValueError for a group with a name that is no class.
    """

    def __init__(self, class_names: Sequence[str], groups: Iterable[Sequence[str]] | None = None):
        self.class_names = tuple(class_names)
        if groups is None:
            groups = VOC_GROUPS if set(CLASSES[1:]) == set(self.class_names[1:]) else ()
        self.similar = np.zeros((len(self.class_names),) * 2, bool)
        for group in groups:
            if unknown := set(group) - set(self.class_names[1:]):
                raise ValueError(
                    f"unknown classes {sorted(unknown)} in a group; known: {', '.join(self.class_names[1:])}"
                )
            rows = [self.class_names.index(name) for name in group]
            self.similar[np.ix_(rows, rows)] = True
        np.fill_diagonal(self.similar, False)
        self.images: dict[int, tuple] = {}

    @property
    def types(self) -> tuple[str, ...]:
        """Those that there can be: "similar" only with groups."""
        return tuple(name for name in TYPES if name != "similar" or self.similar.any())

    def update(self, image_id, result, truth) -> None:
        """Takes the detections of an image and its truth, as `jaxvision.metrics.overlaps.judge` does. The last counts."""
        judged = judge(result, truth)
        touched = judged.overlaps >= TOUCHES
        same = judged.classes[:, None] == judged.objects
        similar = self.similar[judged.classes[:, None], judged.objects]
        kinds = np.select(
            [judged.right, (touched & same).any(1), (touched & similar).any(1), touched.any(1)],
            [TYPES.index(name) for name in ("correct", "localisation", "similar", "other")],
            TYPES.index("background"),
        )
        kept = ~judged.aside
        objects = np.bincount(judged.objects[judged.counted], minlength=len(self.class_names))
        self.images[int(image_id)] = objects, judged.classes[kept], judged.scores[kept], kinds[kept]

    def merge(self, other: "ErrorTypes") -> None:
        self.images |= other.images

    def table(self) -> np.ndarray:
        """(K, 6) how many of each class's N best are of each of TYPES; the rows sum to N. Raises ValueError if no image was
        given."""
        if not self.images:
            raise ValueError("no image was given to update, so there is nothing to score")
        images = [self.images[image_id] for image_id in sorted(self.images)]
        objects, classes, scores, kinds = zip(*images)
        classes, scores, kinds = map(np.concatenate, (classes, scores, kinds))
        order = np.argsort(-scores, kind="stable")
        classes, kinds = classes[order], kinds[order]
        table = np.zeros((len(self.class_names) - 1, len(TYPES)), int)
        for row, (label, count) in zip(table, list(enumerate(np.sum(objects, axis=0)))[1:]):
            row[:] = np.bincount(kinds[classes == label][:count], minlength=len(TYPES))
            row[-1] = count - row.sum()
        return table

    def compute(self) -> dict[str, float]:
        """`correct@N` and `errors/localisation`, ...: shares of the N best, the mean over the classes that have objects."""
        table = self.table()
        with np.errstate(invalid="ignore"):
            shares = table / table.sum(axis=1, keepdims=True)
        means = {name: mean_of_known(share) for name, share in zip(TYPES, shares.T) if name in self.types}
        return {"correct@N" if name == "correct" else f"errors/{name}": mean for name, mean in means.items()}
