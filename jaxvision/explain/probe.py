"""How much of a task can be read off a layer by a linear classifier: the usual measure of features."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def linear_probe(features: np.ndarray, labels: np.ndarray, strength: float = 1.0, iterations: int = 1000) -> Pipeline:
    """A softmax regression on features (n, D), or on the means of maps (n, h, w, D), and labels (n,) whole numbers.

    Scikit-learn's, fitted: `linear_probe(...).score(mean_features(others), labels)` is its accuracy. Features are brought to
    mean 0 and deviation 1; strength: scikit-learn's C, the larger the less the weights are held small. Raises ValueError
    where features and labels are not equally many, are not finite, or all labels are one class.
    """
    features, labels = mean_features(features), np.asarray(labels)
    if len(features) != len(labels):
        raise ValueError(f"{len(features)} rows of features have {len(labels)} labels; give one label for each.")
    if not np.isfinite(features).all():
        raise ValueError(f"Features of row {int(np.argmin(np.isfinite(features).all(1)))} are not finite.")
    if len(np.unique(labels)) < 2:
        raise ValueError(f"All {len(labels)} labels are of one class: there is nothing to tell apart.")
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=iterations)).fit(features, labels)


def mean_features(features: np.ndarray) -> np.ndarray:
    """(n, D) float32: maps (n, h, w, D) by their means, vectors as they are. Raises ValueError for another shape."""
    features = np.asarray(features, np.float32)
    if features.ndim not in (2, 4):
        raise ValueError(f"Features are (n, D) or (n, h, w, D), got {features.shape}.")
    return features.mean((1, 2)) if features.ndim == 4 else features
