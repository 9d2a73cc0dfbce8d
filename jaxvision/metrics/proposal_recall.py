"""How many objects region proposals cover, against their number (Hosang et al., "What makes for effective detection
proposals?", PAMI 2016)."""

from collections.abc import Sequence

import numpy as np

from jaxvision.data.geometry import iou


class ProposalRecall:
    """Share of the objects that some one of an image's first `count` proposals covers by an IoU of at least `overlap`.

    An object may be covered by a proposal that covers another one too. `compute` gives `recall@OVERLAP/COUNT` for each of
    `overlaps` and `counts`; `average_recall/COUNT`, the mean over IoUs of 0.5, 0.55, ... 0.95; `best_overlap/COUNT`, the mean
    of each object's best IoU; and `proposals`, how many an image has on average. NaN where no object was seen.
    """

    def __init__(self, counts: Sequence[int] = (10, 50, 100, 300, 1000, 2000), overlaps: Sequence[float] = (0.5, 0.7)):
        self.counts, self.overlaps = tuple(counts), tuple(overlaps)
        self._best = []  # of each image (objects, counts): the best IoU with the first so many
        self._found = []

    def update(self, proposals: np.ndarray, boxes: np.ndarray) -> None:
        """One image's proposals (n,4), best first, and the boxes (m,4) of its objects."""
        self._found.append(len(proposals))
        best = np.zeros((len(boxes), len(self.counts)))
        if len(boxes) and len(proposals):
            running = np.maximum.accumulate(iou(np.asarray(boxes, float), np.asarray(proposals, float)), axis=1)
            best = running[:, np.minimum(self.counts, len(proposals)) - 1]
        self._best.append(best)

    def merge(self, other: "ProposalRecall") -> None:
        self._best += other._best
        self._found += other._found

    def compute(self) -> dict[str, float]:
        best = np.concatenate([np.zeros((0, len(self.counts))), *self._best])

        def mean(values):
            return values.mean(0) if len(values) else np.full(values.shape[1:], np.nan)

        many = best[..., None] >= np.linspace(0.5, 0.95, 10) - 1e-9
        rows = {f"recall@{overlap:g}": mean(best >= overlap) for overlap in self.overlaps}
        rows |= {"average_recall": mean(many.mean(-1)), "best_overlap": mean(best)}
        scores = {
            f"{name}/{count}": float(value) for name, row in rows.items() for count, value in zip(self.counts, row)
        }
        return scores | {"proposals": float(np.mean(self._found)) if self._found else float("nan")}
