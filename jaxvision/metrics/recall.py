"""How many objects a number of region proposals covers, and how well.

Recall and average recall: Hosang et al., What makes for effective detection proposals?, PAMI 2016. Average best overlap:
Uijlings et al., Selective Search for Object Recognition, IJCV 2013.
"""

from collections.abc import Sequence

import numpy as np

from jaxvision.data.overlaps import iou
from jaxvision.metrics.overlaps import marks
from jaxvision.metrics.voc import mean_of_known

COUNTS = (1, 3, 10, 30, 100, 300, 1000, 2000)
THRESHOLDS = np.linspace(0.5, 0.95, 10)


class ProposalRecall:
    """Collects proposals image by image: of each object, the best IoU among the first 1, 3, ... of them.

    An object is covered by the proposal that overlaps it most; one proposal may cover several. Difficult objects and crowds
    are left out. An image given twice counts once, by its last proposals.
    counts: numbers of proposals, ascending; an image that has fewer gives all of its.
    """

    def __init__(self, class_names: Sequence[str], counts: Sequence[int] = COUNTS):
        if list(counts) != sorted(set(counts)) or min(counts, default=0) < 1:
            raise ValueError(
                f"counts are {tuple(counts)}; give whole numbers from 1 on, each larger than the one before"
            )
        self.class_names, self.counts = tuple(class_names), tuple(counts)
        self.images: dict[int, tuple] = {}

    def update(self, image_id, proposals, truth) -> None:
        """Takes proposals (P, 4), best first, and the truth: boxes (m, 4), classes, difficult and crowd as far as given.

        Raises ValueError for another shape and for numbers that are not finite; no proposals at all are (0, 4).
        """
        proposals = np.asarray(proposals)
        if proposals.ndim != 2 or proposals.shape[1] != 4 or not np.isfinite(proposals).all():
            raise ValueError(
                f"proposals of image {image_id} have shape {proposals.shape}, expected (P, 4), or are not finite"
            )
        classes = np.asarray(truth["classes"]).astype(int)
        kept = ~np.logical_or(*marks(truth))
        # One box ahead of all others that overlaps nothing, so that no proposals are no special case.
        reached = np.pad(iou(proposals[: self.counts[-1]], np.asarray(truth["boxes"])[kept]), ((1, 0), (0, 0)))
        best = np.maximum.accumulate(reached, axis=0)
        self.images[int(image_id)] = best[np.minimum(self.counts, len(best) - 1)].T, classes[kept], len(proposals)

    def merge(self, other: "ProposalRecall") -> None:
        self.images |= other.images

    def _in_order(self) -> list[tuple]:
        return [self.images[image_id] for image_id in sorted(self.images)]

    def best_overlaps(self) -> np.ndarray:
        """(objects, counts): the best IoU of each object of all images among so many proposals."""
        return np.concatenate([np.zeros((0, len(self.counts))), *(best for best, *_ in self._in_order())])

    def recall(self, threshold: float) -> np.ndarray:
        """(counts,): the share of objects with an IoU of the threshold or more; nan without objects."""
        overlaps = self.best_overlaps()
        return (overlaps >= threshold).mean(axis=0) if len(overlaps) else np.full(len(self.counts), np.nan)

    def compute(self) -> dict[str, float]:
        """For each number n of proposals, nan without objects. Raises ValueError if no image was given.

        `recall50@n`, `recall70@n`: at IoU 0.5 and 0.7. `AR@n`: the mean recall at 0.5, 0.55, ... 0.95. `ABO@n`: the mean
        best overlap of the objects; `MABO@n`: its mean over classes. And `proposals`, their mean number an image.
        """
        if not self.images:
            raise ValueError("no image was given to update, so there is nothing to score")
        overlaps = self.best_overlaps()
        classes = np.concatenate([classes for _, classes, _ in self._in_order()])
        average = np.mean([self.recall(threshold) for threshold in THRESHOLDS], axis=0)
        metrics = {"proposals": float(np.mean([count for *_, count in self._in_order()]))}
        for k, count in enumerate(self.counts):
            column = overlaps[:, k]
            by_class = [mean_of_known(column[classes == c]) for c in range(1, len(self.class_names))]
            metrics |= {
                f"recall50@{count}": float(self.recall(0.5)[k]),
                f"recall70@{count}": float(self.recall(0.7)[k]),
                f"AR@{count}": float(average[k]),
                f"ABO@{count}": mean_of_known(column),
                f"MABO@{count}": mean_of_known(np.array(by_class, float)),
            }
        return metrics
