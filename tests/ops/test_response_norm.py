import jax
import numpy as np
import pytest

from jaxvision.ops.response_norm import local_response_norm


def slow(x, size, alpha, beta, k):
    result, channels = np.zeros_like(x), x.shape[-1]
    for c in range(channels):
        window = range(max(0, c - size // 2), min(channels, c + (size - 1) // 2 + 1))
        result[..., c] = x[..., c] / (k + alpha * sum(x[..., j] ** 2 for j in window)) ** beta
    return result


@pytest.mark.parametrize(("size", "alpha", "beta", "k"), [(5, 1e-4, 0.75, 2.0), (3, 0.5, 0.5, 1.0), (4, 0.1, 1.0, 1.0)])
def test_agrees_with_loops(size, alpha, beta, k):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 7)) * 5
    found = jax.jit(local_response_norm, static_argnums=(1, 2, 3, 4))(x.astype(np.float32), size, alpha, beta, k)
    np.testing.assert_allclose(found, slow(x, size, alpha, beta, k), rtol=1e-5)


def test_by_hand():
    x = np.array([3.0, 0, 4], np.float32)
    np.testing.assert_allclose(local_response_norm(x, 3, 1.0, 0.5, 0.0), [1, 0, 1])  # 3 / 3, 0 / 5, 4 / 4
    assert local_response_norm(x.astype(jax.numpy.bfloat16)).dtype == jax.numpy.bfloat16
