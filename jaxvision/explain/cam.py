"""Class activation maps (Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016)."""

import jax.numpy as jnp
from jax import Array


def cam(features: Array, weights: Array) -> Array:
    """Evidence of each class at each cell: features (B,h,w,D) and the weights (D,K) of the linear layer behind their mean to
    (B,h,w,K) float32, M_c(y,x) = sum_d w_dc f_d(y,x).

    The mean of a class's map is its logit without the bias, which belongs to no place. Raises ValueError where the sizes do
    not go together.
    """
    if features.ndim != 4 or weights.ndim != 2 or features.shape[-1] != weights.shape[0]:
        raise ValueError(f"Features {features.shape} and weights {weights.shape} should be (B, h, w, D) and (D, K).")
    return jnp.einsum("byxd,dk->byxk", features.astype(jnp.float32), weights.astype(jnp.float32), precision="highest")
