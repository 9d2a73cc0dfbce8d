"""A convolution that counts its padding as torch does, and is a matrix product where it can be."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

# He et al., "Delving Deep into Rectifiers", ICCV 2015: keeps the variance through ReLUs.
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class Conv(nn.Module):
    """x (B,H,W,I) to (B,H',W',features); kernel (k,k,I/groups,features), H' = (H + 2 padding - dilation (k-1) - 1) // stride + 1.

    padding: None is dilation (k - 1) // 2, which keeps the size at stride 1. A 1x1 convolution is computed as a matrix
    product, which XLA does about twice as fast on a CPU and equally fast elsewhere; a depthwise one (groups = I = features)
    on a CPU as a sum of shifted products, which is many times as fast there (`benchmarks/cpu_layers.py`).
    """

    features: int
    kernel: int = 3
    stride: int = 1
    padding: int | None = None
    dilation: int = 1
    groups: int = 1
    bias: bool = True
    kernel_init: Callable = he_normal
    bias_init: Callable = nn.initializers.zeros
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k, s = self.kernel, self.stride
        kernel = self.param("kernel", self.kernel_init, (k, k, x.shape[-1] // self.groups, self.features))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        pad = self.dilation * (k - 1) // 2 if self.padding is None else self.padding
        if k == 1 and pad == 0 and self.groups == 1:
            x = x[:, ::s, ::s] @ kernel[0, 0]
        else:
            convolve = functools.partial(_convolve, stride=s, pad=pad, dilation=self.dilation, groups=self.groups)
            if self.groups == self.features == x.shape[-1]:
                shifted = functools.partial(_depthwise, stride=s, pad=pad, dilation=self.dilation)
                x = lax.platform_dependent(x, kernel, cpu=shifted, default=convolve)
            else:
                x = convolve(x, kernel)
        if self.bias:
            x = x + self.param("bias", self.bias_init, (self.features,)).astype(self.dtype)
        return x


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, pad: int, dilation: int, groups: int) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(pad, pad)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _depthwise(x: jax.Array, kernel: jax.Array, stride: int, pad: int, dilation: int) -> jax.Array:
    """Each channel by its own kernel (k,k,1,C), as the sum of k k shifted maps."""
    k = len(kernel)
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    reach = dilation * (k - 1) + 1
    height, width = ((n - reach) // stride + 1 for n in x.shape[1:3])

    def shifted(i, j):
        y, z = i * dilation, j * dilation
        last = (len(x), y + stride * (height - 1) + 1, z + stride * (width - 1) + 1, x.shape[-1])
        return lax.slice(x, (0, y, z, 0), last, (1, stride, stride, 1))

    return sum(shifted(i, j) * kernel[i, j, 0] for i in range(k) for j in range(k))
