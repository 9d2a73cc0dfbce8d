"""Class activation maps (Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016)."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jax import Array

from jaxvision.architecture import Architecture
from jaxvision.explain.endpoints import outline, prepared, run, spatial


def cam(features: Array, weights: Array) -> Array:
    """Evidence of each class at each cell: features (B,h,w,D) and the weights (D,K) of the linear layer behind their mean to
    (B,h,w,K) float32, M_c(y,x) = sum_d w_dc f_d(y,x).

    The mean of a class's map is its logit without the bias, which belongs to no place. Raises ValueError where the sizes do
    not go together.
    """
    if features.ndim != 4 or weights.ndim != 2 or features.shape[-1] != weights.shape[0]:
        raise ValueError(f"Features {features.shape} and weights {weights.shape} should be (B, h, w, D) and (D, K).")
    return jnp.einsum("byxd,dk->byxk", features.astype(jnp.float32), weights.astype(jnp.float32), precision="highest")


def class_activation(
    architecture: Architecture | nn.Module, variables: Mapping, batch: Any, layer: str
) -> tuple[Array, Array]:
    """(class activation maps (B,h,w,K), logits (B,K)) of any classifier that takes the mean of a layer's map and then a linear
    layer, or the mean of a map of its classes, rectified or not, as NIN and SqueezeNet (at "head") do.

    Where a network says its `class_maps` (B,h,w,K) itself, that layer is taken as it is. Otherwise the linear layer is found
    among the parameters, and that the means of the maps are the logits, up to its bias, is checked: raises ValueError for a
    network of another form, which Grad-CAM can explain, and as `grad_cam` for the layer.
    """
    network, variables, batch = prepared(architecture, variables, batch)
    endpoint = spatial(network, variables, batch, layer, differentiable=False)
    known, candidates = outline(network, variables, batch).outputs.get("logits"), []
    if known is not None and known.ndim == 2:
        maps, logits = _maps_and_logits(network, endpoint, variables, batch)
        if layer == "class_maps":
            return maps, logits
        if maps.shape[-1] == logits.shape[1]:
            candidates += [(maps, 0.0), (jax.nn.relu(maps), 0.0)]
        parameters = flatten_dict(variables["params"])
        for path, kernel in parameters.items():
            if path[-1] == "kernel" and kernel.shape == (maps.shape[-1], logits.shape[1]):
                candidates.append((cam(maps, kernel), parameters.get((*path[:-1], "bias"), 0.0)))
    for found, bias in candidates:
        means = np.asarray(found.mean((1, 2)) + bias)
        if np.allclose(means, logits, rtol=1e-2, atol=1e-2 * np.abs(logits).max()):
            return found, logits
    raise ValueError(
        f"The logits of {network.name} are not the mean of {layer} and a linear layer, so it has no class activation maps "
        "there: name that layer, or take Grad-CAM, which explains any network."
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _maps_and_logits(network, endpoint, variables, batch):
    outputs = run(network, variables, batch, endpoint)
    return outputs[endpoint.name].astype(jnp.float32), outputs["logits"]
