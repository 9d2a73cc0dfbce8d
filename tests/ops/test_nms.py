import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN

from jaxvision.ops.nms import nms, top_detections


def slow_nms(boxes, scores, threshold, classes, valid):
    """Greedy suppression, one pair at a time."""
    kept = []
    for i in sorted(np.flatnonzero(valid), key=lambda i: (-scores[i], i)):
        if all(classes[i] != classes[j] or overlap(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return np.float32(intersection) / np.float32(union) if union > 0 else 0


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", ["nms", "batched_nms"])
def test_is_torchvisions_best_first(name, threshold):
    classes = GOLDEN["labels"] if name == "batched_nms" else np.zeros(400, int)
    indices, valid = detections(GOLDEN["boxes"], GOLDEN["scores"], classes, np.ones(400, bool), threshold)
    np.testing.assert_array_equal(np.asarray(indices)[np.asarray(valid)], GOLDEN[f"{name}.{threshold}"])


detections = jax.jit(lambda boxes, scores, classes, valid, threshold: top_detections(
    boxes, scores, classes, valid, threshold, 400
))  # fmt: skip


def test_a_thousand_random_cases_with_ties_are_greedy():
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 12, (1000, 16, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 9, corner.shape)], -1).astype(np.float32)
    scores = rng.integers(0, 6, (1000, 16)).astype(np.float32)
    classes = rng.integers(0, 2, (1000, 16)) * (np.arange(1000) % 2)[:, None]
    valid = rng.random((1000, 16)) < rng.choice([0, 0.8, 1], (1000, 1))
    thresholds = rng.choice(np.array([0, 0.1, 0.25, 0.5, 0.75], np.float32), 1000)
    keep = np.asarray(jax.jit(jax.vmap(nms))(boxes, scores, thresholds, classes, valid))
    indices, found = jax.jit(jax.vmap(lambda b, s, t, c, v: top_detections(b, s, c, v, t, 5)))(
        boxes, scores, thresholds, classes, valid
    )
    indices, found = np.asarray(indices), np.asarray(found)
    for i in range(1000):
        kept = slow_nms(boxes[i], scores[i], thresholds[i], classes[i], valid[i])
        assert np.flatnonzero(keep[i]).tolist() == sorted(kept), i
        assert indices[i][found[i]].tolist() == kept[:5], i


def test_a_chain_keeps_both_ends():
    boxes = jnp.array([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])  # neighbours .43, ends .11
    assert jax.jit(nms)(boxes, jnp.array([0.9, 0.8, 0.7]), 0.3).tolist() == [True, False, True]


def test_long_chain_and_more_rows_than_boxes():
    boxes = jnp.stack([jnp.array([3.0 * i, 0, 3 * i + 10, 10]) for i in range(12)])
    indices, valid = jax.jit(lambda b: top_detections(b, -jnp.arange(12.0), None, None, 0.5, 20))(boxes)
    assert indices[valid].tolist() == [0, 2, 4, 6, 8, 10]
    assert indices.shape == valid.shape == (20,)
    assert not valid[6:].any()
