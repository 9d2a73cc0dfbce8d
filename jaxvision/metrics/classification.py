"""Top-k accuracy of classifiers."""

import numpy as np


class TopK:
    """The share of images whose label is among the k best scores, for each k; equal scores rank by class."""

    def __init__(self, ks: tuple[int, ...] = (1, 5)):
        self.ks = tuple(ks)
        self.hits, self.count = np.zeros(len(self.ks), np.int64), 0

    def update(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Adds scores (B, C), higher is better, and labels (B,) in 0..C-1. Raises ValueError for anything else."""
        scores, labels = np.asarray(scores), np.asarray(labels)
        if scores.ndim != 2 or labels.shape != scores.shape[:1]:
            raise ValueError(f"scores have shape {scores.shape}, labels {labels.shape}; expected (B, C) and (B,)")
        if np.isnan(scores).any():
            raise ValueError(f"scores hold NaN in row {np.argwhere(np.isnan(scores))[0, 0]}")
        if labels.size and not 0 <= labels.min() <= labels.max() < scores.shape[1]:
            raise ValueError(f"labels are {labels.min()}..{labels.max()}, expected 0..{scores.shape[1] - 1}")
        own = scores[np.arange(len(labels)), labels][:, None]
        earlier = np.arange(scores.shape[1]) < labels[:, None]
        rank = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
        self.hits += [(rank < k).sum() for k in self.ks]
        self.count += len(labels)

    def merge(self, other: "TopK") -> None:
        self.hits += other.hits
        self.count += other.count

    def compute(self) -> dict[str, float]:
        """{"top1": ..., "top5": ...}. Raises ValueError if no image was given."""
        if not self.count:
            raise ValueError("no image was given, so there is nothing to score")
        return {f"top{k}": float(hits / self.count) for k, hits in zip(self.ks, self.hits)}
