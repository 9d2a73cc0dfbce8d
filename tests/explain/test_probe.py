import numpy as np
import pytest

from jaxvision.explain.probe import linear_probe, mean_features


def test_it_finds_what_a_line_can_tell_apart_and_no_more():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(200, 3, 3, 4)).astype(np.float32)
    means = maps.mean((1, 2))
    linear = (means[:, 1] > means[:, 2]).astype(int)
    probe = linear_probe(maps[:100], linear[:100], strength=100.0)
    assert probe.score(mean_features(maps[100:]), linear[100:]) > 0.9
    apart = (means[:, 1] * means[:, 2] > 0).astype(int)  # an exclusive or: no line
    probe = linear_probe(maps[:100], apart[:100])
    assert probe.score(means[100:], apart[100:]) < 0.7
    scaled = linear_probe(means[:100] * np.array([1, 1e4, 1e-4, 1]), linear[:100] + 7)  # units do not matter
    assert (scaled.predict(means[100:] * np.array([1, 1e4, 1e-4, 1])) == linear[100:] + 7).mean() > 0.85


def test_what_cannot_be_probed():
    features = np.ones((4, 3), np.float32)
    for values, labels, text in (
        (features, [0, 1], "4 rows of features have 2 labels"),
        (features, [1, 1, 1, 1], "All 4 labels are of one class"),
        (np.where(np.eye(4, 3) == 1, np.nan, features), [0, 1, 0, 1], "Features of row 0 are not finite"),
        (features[None], [0, 1, 0, 1], r"got \(1, 4, 3\)"),
    ):
        with pytest.raises(ValueError, match=text):
            linear_probe(values, labels)
