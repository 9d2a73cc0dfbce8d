"""What a network holds at a layer."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.explain.endpoints import outline, prepared, run


def features(architecture: Architecture | nn.Module, variables: Mapping, images: Any, layer: str) -> jax.Array:
    """The layer's array for images (B,H,W,3), uint8 or in 0..1, that fill their canvas, or for a batch: as "c4" (B,h,w,D).

    Bit for bit what the whole network has there, and what it computes behind is left out; one jitted call. layer: any output,
    as "c4", "p3" or "logits", or the path of a submodule, as "trunk/stem". A Linen model of one's own, in place of an
    architecture, is called with `images` as they are. Raises ValueError for a layer that does not exist, with those that do.
    """
    network, variables, batch = prepared(architecture, variables, images)
    endpoint = outline(network, variables, batch).endpoint(layer, network.name, differentiable=False)
    return _features(network, endpoint, variables, batch)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _features(network, endpoint, variables, batch):
    return run(network, variables, batch, endpoint)[endpoint.name]
