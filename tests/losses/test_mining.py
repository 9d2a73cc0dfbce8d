import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.losses.mining import hard_negatives, hard_pixels

mine = jax.jit(hard_negatives, static_argnames=("ratio", "least"))


def slow(losses, positive, ratio, least):
    """SSD's rule for one image, in a loop."""
    chosen = np.zeros(len(losses), bool)
    order = sorted(np.flatnonzero(~positive), key=lambda i: (-losses[i], i))
    chosen[order[: int(max(ratio * positive.sum(), least))]] = True
    return chosen


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.6]), st.sampled_from([0, 3]))
def test_the_hardest_of_each_image(seed, share, least):
    rng = np.random.default_rng(seed)
    losses = rng.integers(0, 6, (3, 20)).astype(np.float32)  # many ties
    positive = rng.random((3, 20)) < share
    found = mine(losses, positive, ratio=3.0, least=least)
    np.testing.assert_array_equal(found, [slow(*row, 3, least) for row in zip(losses, positive)])


def test_no_gradient_passes():
    losses, positive = np.arange(5, dtype=np.float32), np.arange(5) == 2
    gradient = jax.grad(lambda x: (hard_negatives(x, positive) * 1.0).sum())(losses)
    np.testing.assert_array_equal(gradient, 0)


def test_hard_pixels_are_each_images_own_share():
    losses = jnp.array([[[5.0, 1], [3, 4]], [[9, 8], [7, 6]]])
    valid = jnp.array([[[False, True], [True, True]], [[True, True], [True, True]]])
    mask = jax.jit(lambda a, b: hard_pixels(a, b, 0.5))(losses, valid)
    assert mask.tolist() == [[[False, False], [True, True]], [[True, True], [False, False]]]
    assert hard_pixels(jnp.ones((1, 4)), jnp.ones((1, 4), bool), 0.25).tolist() == [[True, False, False, False]]
    np.testing.assert_array_equal(hard_pixels(losses, valid, 1.0), valid)
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        hard_pixels(losses, valid, 0)
