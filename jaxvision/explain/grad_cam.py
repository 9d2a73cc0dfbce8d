"""Grad-CAM (Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks", ICCV 2017) at any layer, for any target."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.explain.endpoints import outline, prepared, run, spatial
from jaxvision.explain.targets import as_targets, scalars


def grad_cam(
    architecture: Architecture | nn.Module,
    variables: Mapping,
    batch: Any,
    layer: str,
    targets: Any,
    counterfactual: bool = False,
    rectify: bool = True,
    local: bool = False,
) -> jax.Array:
    """Where a layer's map speaks for each target: (B, T, h, w) float32, at least 0, in the units of the target.

    A map's channels are weighted by alpha, the spatial mean of the target's gradient in them, added up and rectified.
    counterfactual: the gradient negated before, for what speaks against the target. rectify: False leaves out the ReLU.
    local: a cell's channels are weighted by the gradient there, not by its mean (HiResCAM; Draelos & Carin, arXiv 2011.08891,
    2020): what does not reach the target, as a detection's logit from beyond its region, is 0.

    batch: as the architecture's model takes it, or images (B,H,W,3) that fill their canvas; to a Linen model of one's own,
    given in place of an architecture, whatever that is called with.
    layer: a named endpoint, as "c5", or the path of a submodule, as "trunk/stem".
    targets: classes, an array (T,) or of each image (B,T), or a sequence of targets, see `jaxvision.explain.targets`.

    One jitted call: one forward pass, and for each target a backward pass from the outputs to the layer, all at once, and no
    further. Where a network sees regions one by one, B counts them. Raises ValueError for a layer that does not exist, with
    those that do, for one without height and width, and for targets that the network has not.
    """
    network, variables, batch = prepared(architecture, variables, batch)
    endpoint = spatial(network, variables, batch, layer)
    targets = as_targets(targets, outline(network, variables, batch).outputs)
    options = -1 if counterfactual else 1, rectify, local
    return _grad_cam(network, endpoint, *options, variables, batch, targets)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _grad_cam(network, endpoint, sign, rectify, local, variables, batch, targets):
    offer = outline(network, variables, batch)
    shapes = offer.modules if endpoint.path is None else offer.outputs

    def forward(change):
        outputs = run(network, variables, batch, endpoint, change)
        return scalars(targets, outputs), outputs[endpoint.name]

    nothing = jnp.zeros(offer.shape(endpoint), shapes[endpoint.name].dtype)
    _, pull, features = jax.vjp(forward, nothing, has_aux=True)
    gradients = jax.vmap(lambda one: pull(one)[0])(jnp.eye(len(targets))).astype(jnp.float32)
    alpha = sign * (gradients if local else gradients.mean((2, 3)))
    equation = "byxd,tbyxd->btyx" if local else "byxd,tbd->btyx"
    maps = jnp.einsum(equation, features.astype(jnp.float32), alpha, precision="highest")
    return jax.nn.relu(maps) if rectify else maps
