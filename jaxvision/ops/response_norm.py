"""Local response normalisation (Krizhevsky, Sutskever & Hinton, NeurIPS 2012, section 3.3)."""

import jax.numpy as jnp
from jax import Array, lax


def local_response_norm(x: Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> Array:
    """x (..., C) / (k + alpha * sum of the squares of the `size` channels around)^beta, with the paper's numbers.

    At the first and last channels there are fewer to sum. torch and Caffe divide alpha by the size. In float32; the result
    has x's dtype.
    """
    squares = jnp.square(x.astype(jnp.float32))
    around = [(0, 0, 0)] * (x.ndim - 1) + [(size // 2, (size - 1) // 2, 0)]
    squares = lax.pad(squares, jnp.float32(0), around)
    total = sum(lax.slice_in_dim(squares, i, i + x.shape[-1], axis=-1) for i in range(size))
    return (x / (k + alpha * total) ** beta).astype(x.dtype)
