import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import nhwc

from jaxvision.ops.pool import adaptive_avg_pool, avg_pool, max_pool

FEATURES = nhwc("features")


def slow_pool(x, window, stride, padding, ceil_mode, kind):
    """One window at a time, by the rules in torch's documentation."""
    rounding = math.ceil if ceil_mode else math.floor
    shape = []
    for extent in x.shape[1:3]:
        out = rounding((extent + 2 * padding - window) / stride) + 1
        shape.append(out - (ceil_mode and (out - 1) * stride >= extent + padding))
    result = np.zeros((x.shape[0], *shape, x.shape[3]))
    for i in range(shape[0]):
        for j in range(shape[1]):
            y, x_ = i * stride - padding, j * stride - padding
            part = x[:, max(y, 0) : y + window, max(x_, 0) : x_ + window]
            if kind == "max":
                result[:, i, j] = part.max((1, 2))
                continue
            sides = (min(start + window, n + padding) - start for start, n in zip((y, x_), x.shape[1:3]))
            count = math.prod(sides) if kind == "padded" else part.shape[1] * part.shape[2]
            result[:, i, j] = part.sum((1, 2)) / count
    return result


def test_is_torchvisions():
    np.testing.assert_array_equal(max_pool(FEATURES, 2), nhwc("max_pool"))
    np.testing.assert_array_equal(max_pool(FEATURES, 3, 2, 0, ceil_mode=True), nhwc("max_pool.ceil"))


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0), (5, 4, 2)])
def test_slow_windows_agree(window, stride, padding, ceil_mode):
    x = FEATURES[:1, :11, :14, :2]
    arguments = (window, stride, padding, ceil_mode)
    np.testing.assert_allclose(max_pool(x, *arguments), slow_pool(x, *arguments, "max"), atol=1e-6)
    np.testing.assert_allclose(avg_pool(x, *arguments), slow_pool(x, *arguments, "padded"), atol=1e-6)
    without_pad = avg_pool(x, *arguments, count_include_pad=False)
    np.testing.assert_allclose(without_pad, slow_pool(x, *arguments, "own"), atol=1e-6)


def test_gradient_goes_to_the_greatest_and_ties_share_it():
    gradient = jax.jit(jax.grad(lambda x: (max_pool(x, 3, 2, 1) ** 2).sum()))(FEATURES)
    pooled, pull = jax.vjp(lambda x: -jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), (
        (0, 0), (1, 1), (1, 1), (0, 0))), jnp.asarray(FEATURES))  # fmt: skip
    np.testing.assert_allclose(gradient, pull(2 * pooled)[0], atol=1e-5)
    tied = jax.grad(lambda x: max_pool(x, 2).sum())(jnp.zeros((1, 4, 4, 1)))
    np.testing.assert_allclose(tied, 0.25)


def test_integers_and_pairs():
    x = np.arange(24, dtype=np.int32).reshape(1, 4, 6, 1) - 30
    assert max_pool(x, (1, 3), (2, 3), (0, 0))[0, :, :, 0].tolist() == [[-28, -25], [-16, -13]]
    assert max_pool(x, 3, 2, 1)[0, 0, 0, 0] == -23


@pytest.mark.parametrize("size", [7, (6, 4), (1, 23), (30, 5)])
def test_adaptive_cells_are_torchs(size):
    """From floor(i n / cells) to ceil((i + 1) n / cells), in torch's words; more cells than rows repeat them."""
    x = FEATURES[:, :, :, :3]
    height, width = (size, size) if isinstance(size, int) else size
    expected = np.zeros((len(x), height, width, 3))
    for i in range(height):
        for j in range(width):
            rows = slice(math.floor(i * 17 / height), math.ceil((i + 1) * 17 / height))
            columns = slice(math.floor(j * 23 / width), math.ceil((j + 1) * 23 / width))
            expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(adaptive_avg_pool(x, size), expected, atol=1e-6)
    np.testing.assert_array_equal(adaptive_avg_pool(x, (17, 23)), x)
