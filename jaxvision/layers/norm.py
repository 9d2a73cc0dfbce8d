"""Normalisation by name, so that a model can be built with any."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

KINDS = ("batch", "frozen", "group", "none")


class Norm(nn.Module):
    """Normalises the last axis of x.

    kind: "batch" (statistics of the batch in training, running ones otherwise), "frozen" (always the running
      ones; scale and bias stay parameters, held by the optimiser's `trainable` pattern), "group" (32 groups, or as many as
      divide the channels), "none". A number after a colon is its eps, as "frozen:0" for torchvision's COCO_V1 detectors.
    momentum: what running statistics keep of themselves in a step; torch states what they lose.
    axis: name of the mapped axis over which batch statistics are taken under pmap or shard_map; jit needs none.
    Statistics are computed in float32. Raises ValueError for another kind.
    """

    kind: str = "batch"
    eps: float = 1e-5
    axis: str | None = None
    scale_init: Any = nn.initializers.ones
    dtype: Any = jnp.float32
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        kind, _, eps = self.kind.partition(":")
        if kind not in KINDS:
            raise ValueError(f"norm {self.kind!r} is not one of {', '.join(KINDS)}.")
        if kind == "none":
            return x
        eps = float(eps or self.eps)
        if kind == "group":
            groups = max(g for g in range(1, 33) if x.shape[-1] % g == 0)
            return nn.GroupNorm(groups, epsilon=eps, scale_init=self.scale_init, dtype=self.dtype, name="norm")(x)
        return nn.BatchNorm(
            use_running_average=kind == "frozen" or not train,
            momentum=self.momentum,
            epsilon=eps,
            axis_name=self.axis,
            scale_init=self.scale_init,
            dtype=self.dtype,
            name="norm",
        )(x)
