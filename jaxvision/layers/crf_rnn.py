"""Mean field of a dense CRF as a layer that learns (Zheng et al., "Conditional Random Fields as Recurrent Neural
Networks", ICCV 2015)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.ops.crf import PRESETS, Settings, mean_field


class CRFRNN(nn.Module):
    """Logits (B,H,W,K) refined by mean field on images (B,H,W,3), RGB in 0..255 of any dtype; float32.

    image_size (B,2): height and width of the part that holds the picture; logits beyond it stay as they are.

    settings: the parameters begin as its weights and its compatibility (Potts'), for its deviations. weights: "class", one
    of each kernel for each class, or "full", (K,K), begun as a diagonal. iterations: in training and otherwise; those of
    `settings` are not read. method: "fast" or "exact", see `mean_field`.
    Departure: a pixel sends itself no message unless `settings.self_term`; the paper's lattice has it send one.
    Raises ValueError for other `weights`.
    """

    settings: Settings = PRESETS["crf_rnn"]
    weights: str = "class"
    iterations: tuple[int, int] = (5, 10)
    method: str = "fast"

    @nn.compact
    def __call__(self, logits: jax.Array, image: jax.Array, image_size: jax.Array, train: bool = False) -> jax.Array:
        if self.weights not in ("class", "full"):
            raise ValueError(f'weights {self.weights!r} is not one of "class", "full".')
        classes, start = logits.shape[-1], self.settings
        square = (classes, classes)
        potts = 1 - jnp.eye(classes) if start.compatibility is None else start.compatibility
        shape = (classes,) if self.weights == "class" else square
        settings = dataclasses.replace(
            start,
            bilateral_weight=self.param("bilateral_weight", _start(start.bilateral_weight), shape),
            gaussian_weight=self.param("gaussian_weight", _start(start.gaussian_weight), shape),
            compatibility=self.param("compatibility", _start(potts), square),
            iterations=self.iterations[0 if train else 1],
        )
        height, width = logits.shape[1:3]

        def refine(example):
            logits, image, size = example
            valid = (jnp.arange(height) < size[0])[:, None] & (jnp.arange(width) < size[1])
            return mean_field(logits, image, settings, valid, self.method)

        return jax.lax.map(refine, (logits, image, image_size))


def _start(value: Any) -> Callable:
    """An initialiser with a value of that shape; one of fewer axes is broadcast to (K,), or the diagonal of (K,K)."""

    def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        start = jnp.asarray(value, jnp.float32)
        if start.ndim < len(shape) == 2:
            return jnp.diag(jnp.broadcast_to(start, shape[:1]))
        return jnp.broadcast_to(start, shape)

    return init
