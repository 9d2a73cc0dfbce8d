"""Semantic segmentation scores from one confusion matrix, summed over the whole set."""

import numpy as np


class ConfusionMatrix:
    """Counts n_ij, the pixels of class i predicted as class j, over all images given.

    `matrix` is (C, C) int64, rows truth, columns prediction. Scores: Long, Shelhamer, Darrell, Fully Convolutional
    Networks, 2015. A class absent from the truth but predicted counts 0 in the mean IU, as in their code
    (detectron2 leaves it out); one absent from both is left out.
    """

    def __init__(self, num_classes: int, ignore: int = 255):
        self.num_classes, self.ignore = num_classes, ignore
        self.matrix = np.zeros((num_classes, num_classes), np.int64)

    def update(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Adds maps of classes of one shape, (H, W) or any; pixels whose truth is `ignore` are left out.

        Raises ValueError where shapes differ or a counted pixel holds no class in 0..C-1.
        """
        predicted, truth = np.asarray(predicted), np.asarray(truth)
        if predicted.shape != truth.shape:
            raise ValueError(f"predicted has shape {predicted.shape}, truth {truth.shape}; resize the prediction")
        counted = truth != self.ignore
        predicted, truth = predicted[counted].astype(np.int64), truth[counted].astype(np.int64)
        for name, values in ("predicted", predicted), ("truth", truth):
            if values.size and not 0 <= values.min() <= values.max() < self.num_classes:
                raise ValueError(
                    f"{name} holds classes {values.min()}..{values.max()}, expected 0..{self.num_classes - 1}"
                    f"{f' or {self.ignore}' if name == 'truth' else ''}"
                )
        pairs = np.bincount(self.num_classes * truth + predicted, minlength=self.num_classes**2)
        self.matrix += pairs.reshape(self.matrix.shape)

    def merge(self, other: "ConfusionMatrix") -> None:
        self.matrix += other.matrix

    def table(self) -> dict[str, np.ndarray]:
        """Per class: `pixels` of the truth, `accuracy`, `iu`, `binary_accuracy`, each (C,); nan where the denominator is 0.

        binary_accuracy: (true positives + true negatives) / all pixels, of the class against the rest. Where a class is
        rare the negatives alone bring it near 1.
        """
        right, truth, predicted = np.diag(self.matrix), self.matrix.sum(1), self.matrix.sum(0)
        either, total = truth + predicted - right, self.matrix.sum()
        with np.errstate(invalid="ignore"):
            return {
                "pixels": truth,
                "accuracy": right / truth,
                "iu": right / either,
                "binary_accuracy": (total - either + right) / total,
            }

    def compute(self) -> dict[str, float]:
        """`pixel_accuracy, mean_accuracy, mean_iu, frequency_weighted_iu`. Raises ValueError if none was counted."""
        total = self.matrix.sum()
        if not total:
            raise ValueError("no labelled pixel was given, so there is nothing to score")
        table = self.table()
        present = table["pixels"] > 0
        return {
            "pixel_accuracy": float(np.trace(self.matrix) / total),
            "mean_accuracy": float(np.nanmean(table["accuracy"])),
            "mean_iu": float(np.nanmean(table["iu"])),
            "frequency_weighted_iu": float((table["pixels"] * table["iu"])[present].sum() / total),
        }
