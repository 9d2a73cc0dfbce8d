"""The feature pyramid (Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.ops.resize import resize


class FPN(nn.Module):
    """Maps {"c2": ..., "c5": ...} to {"p2", ..., "p5"} and what `extra` adds, `features` channels each, float32.

    1x1 laterals, a top-down path that takes the nearest cell, and 3x3 convolutions without non-linearity, each followed by
    `norm`. extra: "pool" adds one level, every second cell of the last (Faster R-CNN's p6). The name of a map, as "p5" or
    "c5", adds two by 3x3 convolutions at stride 2: one of that map, one of the first rectified (RetinaNet's p6 and p7).
    "none" adds none.
    """

    levels: Sequence[str] = ("c2", "c3", "c4", "c5")
    features: int = 256
    norm: str = "none"
    extra: str = "pool"
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")

        def conv(x, kernel, name):
            bias = self.norm == "none"
            x = Conv(self.features, kernel, bias=bias, kernel_init=init, dtype=self.dtype, name=name)(x)
            return Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"{name}_norm")(x, train)

        pyramid, above = {}, None
        for level in reversed(self.levels):
            x = conv(maps[level], 1, f"lateral_{level}")
            above = x if above is None else x + resize(above, x.shape[1:3], "nearest")
            name = f"p{level[1:]}"
            pyramid[name] = self.perturb(name, conv(above, 3, f"output_{level}").astype(jnp.float32))
        highest = int(self.levels[-1][1:])
        if self.extra == "pool":
            pyramid[f"p{highest + 1}"] = pyramid[f"p{highest}"][:, ::2, ::2]
        elif self.extra != "none":
            x = {**maps, **pyramid}[self.extra]
            for name in (f"p{highest + 1}", f"p{highest + 2}"):
                x = Conv(self.features, 3, 2, kernel_init=init, dtype=self.dtype, name=f"extra_{name}")(x)
                pyramid[name] = self.perturb(name, x.astype(jnp.float32))
                x = nn.relu(pyramid[name])
        return dict(sorted(pyramid.items()))
