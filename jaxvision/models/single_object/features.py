"""What networks that regress one object's place have in common: features that know where, and the losses.

The mean of a map does not know where in it something was: the last map is flattened.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.layers.conv import he_normal
from jaxvision.losses.box_regression import l1, l2, smooth_l1
from jaxvision.ops.pool import adaptive_avg_pool

LOSSES = {"l2": l2, "l1": l1, "smooth_l1": smooth_l1}


def dense_features(
    maps: Mapping[str, jax.Array],
    level: str | None,
    cells: int,
    fc: Sequence[int],
    dropout: float,
    train: bool,
    dtype: Any = jnp.float32,
) -> jax.Array:
    """Features (B, fc[-1]) float32 from a map's means over cells x cells, by dense layers fc6, fc7, ... of the calling module.

    level: name of the map; None is the trunk's last. Raises ValueError for one that the trunk has not.
    """
    level = level or list(maps)[-1]
    if level not in maps:
        raise ValueError(f"The trunk has no map {level!r}; it has {', '.join(maps)}.")
    x = adaptive_avg_pool(maps[level], cells)
    x = x.reshape(len(x), -1)
    for number, width in enumerate(fc, 6):
        x = nn.relu(nn.Dense(width, kernel_init=he_normal, dtype=dtype, name=f"fc{number}")(x))
        x = nn.Dropout(dropout, deterministic=not train)(x)
    return x.astype(jnp.float32)


def regression_loss(name: str, beta: float) -> Callable:
    """The loss of that name, `(predictions, targets, valid) -> (sum, count)`; beta: of smooth L1, above 0.

    Raises ValueError for another.
    """
    if name not in LOSSES:
        raise ValueError(f"loss {name!r} is not one of {', '.join(LOSSES)}.")
    if beta <= 0:
        raise ValueError(f"beta is {beta}: up to that error smooth L1 is quadratic, so it is above 0, such as 0.05.")
    return functools.partial(smooth_l1, beta=beta) if name == "smooth_l1" else LOSSES[name]
