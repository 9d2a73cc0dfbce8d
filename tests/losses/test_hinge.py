import jax
import numpy as np
import pytest

from jaxvision.losses.hinge import one_against_rest, sum_of_margins, worst_margin

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(4, 3, 5)).astype(np.float32) * 2
LABELS = RNG.integers(0, 5, (4, 3))


def slow_margins(scores, label):
    """The violations of the wrong classes, one by one."""
    return [max(0.0, 1 + scores[j] - scores[label]) for j in range(len(scores)) if j != label]


def test_by_hand():
    scores = np.array([3.2, 5.1, -1.7], np.float32)  # of which the first is right
    assert float(sum_of_margins(scores, np.array(0))) == pytest.approx(2.9)  # 5.1 - 3.2 + 1, and 0
    scores = np.array([1.5, 2.0, 1.0], np.float32)
    assert float(sum_of_margins(scores, np.array(0))) == pytest.approx(1.5 + 0.5)
    assert float(worst_margin(scores, np.array(0))) == pytest.approx(1.5)
    assert float(one_against_rest(scores, np.array([True, False, False]))) == pytest.approx(0 + 3 + 2)
    assert float(one_against_rest(-scores, np.array([True, False, True]))) == pytest.approx(2.5 + 0 + 2)
    sure = np.array([9.0, 0, 0], np.float32)
    assert float(sum_of_margins(sure, np.array(0))) == float(worst_margin(sure, np.array(0))) == 0


@pytest.mark.parametrize(("loss", "reduce"), [(sum_of_margins, sum), (worst_margin, max)])
def test_agrees_with_loops(loss, reduce):
    wanted = [[reduce(slow_margins(s, y)) for s, y in zip(*rows)] for rows in zip(SCORES, LABELS)]
    np.testing.assert_allclose(jax.jit(loss)(SCORES, LABELS), wanted, rtol=1e-5, atol=1e-5)


def test_one_against_rest_agrees_with_loops():
    targets = RNG.random(SCORES.shape) < 0.5
    signs = np.where(targets, 1, -1)
    wanted = np.array([max(0, 1 - y * s) for y, s in zip(signs.ravel(), SCORES.ravel())]).reshape(SCORES.shape).sum(-1)
    np.testing.assert_allclose(jax.jit(one_against_rest)(SCORES, targets), wanted, rtol=1e-5)


@pytest.mark.parametrize("loss", [sum_of_margins, worst_margin])
def test_the_gradient_pulls_at_what_violates_alone(loss):
    scores = np.array([1.0, 1.5, 0.8, -3.0], np.float32)
    found = jax.grad(lambda s: loss(s, np.array(0)))(scores)
    wanted = [-2, 1, 1, 0] if loss is sum_of_margins else [-1, 1, 0, 0]
    np.testing.assert_allclose(found, wanted)
