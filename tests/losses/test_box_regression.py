import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses import box_regression

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "operators.npz")
PREDICTIONS, TARGETS = GOLDEN["boxes"][:30] / 10, GOLDEN["boxes"][30:60] / 10


@pytest.mark.parametrize(("name", "golden"), [("smooth_l1", "smooth_l1"), ("giou", "giou_loss")])
def test_rows_are_torchvisions(name, golden):
    sums, counts = jax.vmap(getattr(box_regression, name))(PREDICTIONS, TARGETS)
    golden = GOLDEN[f"loss.{golden}"].reshape(30, -1).sum(1)
    np.testing.assert_allclose(sums, golden, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(counts, 1)


def test_sums_run_over_coordinates_and_counts_over_valid_rows():
    predictions = jnp.array([[1.0, 2, 3, 4], [0, 0, 0, 0], [jnp.nan] * 4])
    targets = jnp.array([[1.0, 2.05, 5, 4], [1, 1, 1, 1], [0, 0, 0, 0]])
    first, two = jnp.array([True, False, False]), jnp.array([True, True, False])
    for function, one, both in [
        (box_regression.l1, 2.05, 6.05),
        (box_regression.l2, 4.0025, 8.0025),
        (box_regression.smooth_l1, 2 - 1 / 18 + 0.05**2 * 4.5, 6 - 5 / 18 + 0.05**2 * 4.5),
    ]:
        for valid, expected in ((first, one), (two, both)):
            total, count = function(predictions, targets, valid)
            assert float(total) == pytest.approx(expected, rel=1e-5)
            assert count == valid.sum()


@pytest.mark.parametrize("name", ["smooth_l1", "l1", "l2", "giou"])
def test_gradients_are_finite_whatever_the_padding_holds(name):
    function = getattr(box_regression, name)
    predictions = jnp.array([[1.0, 2, 3, 4], [5, 5, 5, 5], [9, 9, 2, 2], [jnp.nan] * 4, [jnp.inf] * 4])
    targets = jnp.array([[1.0, 2, 3, 4], [5, 5, 5, 5], [0, 0, 1, 1], [jnp.nan] * 4, [0, 0, 0, 0]])
    valid = jnp.arange(5) < 3
    gradient = jax.grad(lambda p: function(p, targets, valid)[0])(predictions)
    assert np.isfinite(gradient).all()
    assert (gradient[3:] == 0).all()
    assert function(predictions, targets, valid & False) == (0, 0)


def test_smooth_l1_bends_at_beta():
    errors = jnp.array([[0.2, 0.49, 0.51, 3.0]])
    total, _ = box_regression.smooth_l1(errors, 0 * errors, beta=0.5)
    assert float(total) == pytest.approx(0.04 + 0.49**2 + 0.26 + 2.75, rel=1e-5)
