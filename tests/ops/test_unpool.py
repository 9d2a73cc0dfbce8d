import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN, nhwc

from jaxvision.ops.pool import max_pool
from jaxvision.ops.unpool import bed_of_nails, max_pool_with_switches, max_unpool, nearest_unpool

FEATURES = nhwc("features")
X = jnp.arange(1.0, 5).reshape(1, 2, 2, 1)


def adjoint(function, shape, cotangent):
    return jax.vjp(function, jnp.zeros(shape))[1](cotangent)[0]


def test_nearest_repeats_and_its_adjoint_sums():
    assert nearest_unpool(X, 2)[0, :, :, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert nearest_unpool(X, (1, 3)).shape == (1, 2, 6, 1)
    y = jnp.arange(16.0).reshape(1, 4, 4, 1)
    sums = y.reshape(2, 2, 2, 2).sum((1, 3))
    np.testing.assert_array_equal(adjoint(lambda x: nearest_unpool(x, 2), X.shape, y)[0, :, :, 0], sums)


def test_nails_stand_in_the_corner_and_the_adjoint_is_a_strided_slice():
    assert bed_of_nails(X, 2)[0, :, :, 0].tolist() == [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    y = jnp.arange(24.0).reshape(1, 4, 6, 1)
    np.testing.assert_array_equal(adjoint(lambda x: bed_of_nails(x, (2, 3)), X.shape, y), y[:, ::2, ::3])


def test_switches_and_unpooling_are_torchs():
    pooled, switches = jax.jit(lambda x: max_pool_with_switches(x, 2))(FEATURES)
    np.testing.assert_array_equal(pooled, nhwc("max_pool"))
    np.testing.assert_array_equal(switches, nhwc("max_pool.index"))
    size = FEATURES.shape[1:3]  # odd: the last row and column are in no window
    np.testing.assert_array_equal(max_unpool(pooled, switches, 2, size), nhwc("max_unpool"))
    assert switches.dtype == jnp.int32 and GOLDEN["max_unpool"].shape[2:] == size


def test_windows_that_are_not_square():
    x = jnp.array(np.random.default_rng(0).normal(size=(2, 7, 9, 3)))
    pooled, switches = max_pool_with_switches(x, (3, 2))
    np.testing.assert_array_equal(pooled, max_pool(x, (3, 2)))
    back = max_unpool(pooled, switches, (3, 2), (7, 9))
    np.testing.assert_array_equal(back, jnp.where(back != 0, x, 0))
    assert ((back != 0).sum((1, 2)) == 8).all()


def test_of_equal_values_the_first_counts():
    _, switches = max_pool_with_switches(jnp.ones((1, 2, 4, 1)), 2)
    assert switches.ravel().tolist() == [0, 2]
    gradient = jax.grad(lambda x: max_pool_with_switches(x, 2)[0].sum())(jnp.ones((1, 2, 4, 1)))
    assert gradient.ravel().tolist() == [1, 0, 1, 0, 0, 0, 0, 0]


def test_a_value_that_is_zero_or_negative_goes_to_its_place():
    pooled, switches = max_pool_with_switches(-1 - X, 2)
    assert max_unpool(pooled, switches, 2, (2, 2))[0, :, :, 0].tolist() == [[-2, 0], [0, 0]]


def test_gradient_of_unpooling_is_what_stands_at_the_switches():
    _, switches = max_pool_with_switches(FEATURES, 2)
    y = jnp.array(FEATURES)
    back = adjoint(lambda x: max_unpool(x, switches, 2, (17, 23)), switches.shape, y)
    np.testing.assert_array_equal(back, nhwc("max_pool"))


def test_sizes_that_do_not_go_together_are_refused():
    pooled, switches = max_pool_with_switches(jnp.zeros((1, 8, 8, 1)), 2)
    with pytest.raises(ValueError, match="10 x 8 has 5 x 4 windows"):
        max_unpool(pooled, switches, 2, (10, 8))
