import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses.cross_entropy import sigmoid_cross_entropy
from jaxvision.losses.focal import sigmoid_focal

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "operators.npz")
LOGITS = GOLDEN["boxes"][:30] / 10 - 5
TARGETS = (GOLDEN["boxes"][30:60] / 10 > 6).astype(np.float32)


def test_elements_are_torchvisions():
    elements = jax.vmap(jax.vmap(lambda x, t: sigmoid_focal(x, t)[0]))(LOGITS, TARGETS)
    np.testing.assert_allclose(elements, GOLDEN["loss.focal"], rtol=1e-5, atol=1e-6)
    total, count = sigmoid_focal(LOGITS, TARGETS, np.arange(30) < 20)
    assert float(total) == pytest.approx(GOLDEN["loss.focal"][:20].sum(), rel=1e-5)
    assert count == 80


def test_without_focus_and_weight_it_is_cross_entropy():
    plain = sigmoid_focal(LOGITS, TARGETS, alpha=-1, gamma=0)
    np.testing.assert_allclose(plain, sigmoid_cross_entropy(LOGITS, TARGETS), rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradient_is_finite_far_out_and_where_nothing_counts(gamma):
    logits = jnp.array([500.0, -500, 500, -500, 0, jnp.nan])
    targets = jnp.array([1.0, 0, 0, 1, 1, 1])
    valid = jnp.arange(6) < 5
    gradient = jax.grad(lambda x: sigmoid_focal(x, targets, valid, gamma=gamma)[0])(logits)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[:4], [0, 0, 0.75, -0.25], atol=1e-5)
    assert gradient[5] == 0


@pytest.mark.parametrize("wrong", [dict(alpha=1.5), dict(gamma=-1.0)])
def test_weights_that_turn_the_loss_around_are_refused(wrong):
    with pytest.raises(ValueError, match="alpha <= 1 and gamma >= 0"):
        sigmoid_focal(LOGITS, TARGETS, **wrong)
