import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses.cross_entropy import sigmoid_cross_entropy, softmax_cross_entropy

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.normal(size=(5, 6, 4))).astype(np.float32)
LABELS = RNG.integers(0, 4, (5, 6))


def slow_rows(logits, labels):
    logits = logits.astype(np.float64)
    return np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, labels[..., None], -1)[..., 0]


@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_is_torchs_weighted_sum(weighted):
    valid = RNG.random(LABELS.shape) < 0.6
    weights = np.array([0.5, 1, 2, 0], np.float32) if weighted else None
    total, count = jax.jit(softmax_cross_entropy)(LOGITS, LABELS, valid, weights)
    row_weights = valid * (weights[LABELS] if weighted else 1)
    assert float(total) == pytest.approx((slow_rows(LOGITS, LABELS) * row_weights).sum(), rel=1e-5)
    assert float(count) == pytest.approx(row_weights.sum())


def test_ignored_and_impossible_labels_count_nowhere():
    labels = LABELS.copy()
    labels[0], labels[1], labels[2] = 255, -1, 2
    total, count = softmax_cross_entropy(LOGITS, labels, ignore=2)
    kept = (labels != 2) & (labels >= 0) & (labels < 4)
    assert float(count) == kept.sum() < 18
    assert float(total) == pytest.approx(slow_rows(LOGITS, LABELS)[kept].sum(), rel=1e-5)


def test_nan_in_rows_that_do_not_count_reaches_neither_value_nor_gradient():
    logits = LOGITS.copy()
    logits[2] = np.nan
    valid = np.arange(5) != 2
    rows = np.broadcast_to(valid[:, None], LABELS.shape)

    def value(logits):
        softmax = softmax_cross_entropy(logits, np.where(rows, LABELS, 9), rows)
        sigmoid = sigmoid_cross_entropy(logits, jnp.where(jnp.isnan(logits), jnp.nan, 1.0), valid)
        return softmax[0] + sigmoid[0]

    total, gradient = jax.jit(jax.value_and_grad(value))(logits)
    assert np.isfinite(total) and np.isfinite(gradient).all()
    assert (gradient[2] == 0).all() and (gradient[0] != 0).all()
    assert softmax_cross_entropy(logits, LABELS, np.zeros(LABELS.shape, bool)) == (0, 0)


def test_sigmoid_counts_the_elements_of_valid_rows_and_is_finite_far_out():
    targets = RNG.random(LOGITS.shape).astype(np.float32)
    valid = np.arange(5) < 3
    total, count = sigmoid_cross_entropy(LOGITS, targets, valid)
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    assert float(total) == pytest.approx(expected[:3].sum(), rel=1e-5)
    assert float(count) == 3 * 6 * 4
    far = jax.grad(lambda x: sigmoid_cross_entropy(x, jnp.array([0.0, 1, 0, 1]))[0])(jnp.array([1e4, -1e4, -1e4, 1e4]))
    np.testing.assert_allclose(far, [1, -1, 0, 0], atol=1e-6)


def test_bfloat16_is_summed_in_float32():
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    total, count = softmax_cross_entropy(logits, LABELS)
    assert total.dtype == count.dtype == jnp.float32
    assert float(total) == pytest.approx(slow_rows(np.asarray(logits, np.float64), LABELS).sum(), rel=1e-5)
