"""The head that dense detectors share over the levels of a pyramid."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm

PRIOR = -math.log((1 - 0.01) / 0.01)  # the logit at which everything begins as an object of probability 0.01

normal = nn.initializers.normal(0.01)


class Head(nn.Module):
    """A tower of 3x3 convolutions, each normalised and rectified, and on it one more for each output.

    outputs: {name: (values of an anchor, bias that they begin with)}. anchors: of a cell. Every level is read by the same
    weights; normalisation sees one level at a time, so `norm` is "group" or "none". bias: of the tower's convolutions.
    """

    outputs: Mapping[str, tuple[int, float]]
    anchors: int = 1
    features: int = 256
    convs: int = 4
    norm: str = "none"
    bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> dict[str, list[jax.Array]]:
        """{name: of each level (B, H * W * anchors, values) float32}, cell by cell in rows."""
        if self.norm.partition(":")[0] not in ("group", "none"):
            raise ValueError(
                f"head_norm {self.norm!r} is not one of group, none: levels share weights, not statistics."
            )
        tower = [
            (
                Conv(self.features, 3, bias=self.bias, kernel_init=normal, dtype=self.dtype, name=f"conv{i}"),
                Norm(self.norm, dtype=self.dtype, name=f"norm{i}"),
            )
            for i in range(self.convs)
        ]
        tops = {
            name: Conv(
                self.anchors * values,
                kernel_init=normal,
                bias_init=nn.initializers.constant(bias),
                dtype=self.dtype,
                name=name,
            )
            for name, (values, bias) in self.outputs.items()
        }
        found = {name: [] for name in tops}
        for x in maps:
            for conv, norm in tower:
                x = nn.relu(norm(conv(x)))
            for name, top in tops.items():
                found[name].append(top(x).astype(jnp.float32).reshape(len(x), -1, self.outputs[name][0]))
        return found
