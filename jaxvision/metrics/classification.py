"""Scores of classifiers by the ranks of their classes: top-k accuracy, precision and recall at k, average precision."""

import numpy as np

from jaxvision.metrics.voc import area, eleven_points, mean_of_known


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


def _checked(scores, labels) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores), np.asarray(labels, bool)
    if scores.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"scores have shape {scores.shape}, labels {labels.shape}; expected (C,) and (C,)")
    if np.isnan(scores).any():
        raise ValueError(f"scores hold NaN, of class {np.argmax(np.isnan(scores))}")
    return scores, labels


class AtK:
    """precision@k: the share of the k best scored classes that are the image's, the mean over images. recall@k: the share of
    the image's classes that are among them, the mean over images that have any.

    Equal scores rank by class. Of one class an image, recall@k is the top-k accuracy and precision@k a k-th of it.
    """

    def __init__(self, ks: tuple[int, ...] = (1, 3, 5)):
        self.ks = tuple(ks)
        self.images: list[tuple[int, ...]] = []  # of each the hits among the k best, and its number of classes

    def update(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Adds an image by its scores (C,), higher is better, and labels (C,) bool. Raises ValueError for anything else."""
        scores, labels = _checked(scores, labels)
        ranked = labels[np.argsort(-scores, kind="stable")]
        self.images.append((*(int(ranked[:k].sum()) for k in self.ks), int(labels.sum())))

    def merge(self, other: "AtK") -> None:
        self.images += other.images

    def compute(self) -> dict[str, float]:
        """{"precision@1": ..., "recall@1": ...}; recall is nan where no image has a class. Raises ValueError without images."""
        if not self.images:
            raise ValueError("no image was given, so there is nothing to score")
        *hits, counts = np.array(self.images).T
        shown = counts > 0
        scores = {f"precision@{k}": float(np.mean(hit / k)) for k, hit in zip(self.ks, hits)}
        return scores | {f"recall@{k}": mean_of_known(hit[shown] / counts[shown]) for k, hit in zip(self.ks, hits)}


class LabelAP:
    """Average precision of each class's images among all, ranked by the class's scores: VOC's classification task.

    Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010, section 4.1. Equal scores stand in the order
    of the images' ids. An image given twice counts once, by its last result.
    """

    def __init__(self, class_names):
        self.class_names = tuple(class_names)
        self.images: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def update(self, image_id: int, scores: np.ndarray, labels: np.ndarray) -> None:
        """Adds an image by its scores (C,), higher is better, and labels (C,) bool. Raises ValueError for anything else."""
        scores, labels = _checked(scores, labels)
        if len(scores) != len(self.class_names):
            raise ValueError(f"{len(scores)} scores for {len(self.class_names)} classes")
        self.images[int(image_id)] = scores, labels

    def merge(self, other: "LabelAP") -> None:
        self.images |= other.images

    def curves(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Recall and precision (n,) of each class after each image, from the best on; empty of a class without images."""
        scores, labels = (np.stack(rows) for rows in zip(*(self.images[i] for i in sorted(self.images))))
        curves = []
        for score, label in zip(scores.T, labels.T):
            hits = np.cumsum(label[np.argsort(-score, kind="stable")])
            count = len(hits) if hits[-1] else 0
            curves.append((hits[:count] / max(hits[-1], 1), hits[:count] / np.arange(1, count + 1)))
        return curves

    def compute(self) -> dict[str, float]:
        """`mAP`, by VOC's rule of 2010 and later, `mAP/voc07`, by that of 2007, and `AP/NAME` of each class by the former.

        A class without images is nan, and the means leave it out. Raises ValueError if no image was given.
        """
        if not self.images:
            raise ValueError("no image was given, so there is nothing to score")
        curves = self.curves()
        late, early = (
            [rule(*curve) if len(curve[0]) else float("nan") for curve in curves] for rule in (area, eleven_points)
        )
        means = {"mAP": mean_of_known(late), "mAP/voc07": mean_of_known(early)}
        return means | {f"AP/{name}": float(value) for name, value in zip(self.class_names, late)}
