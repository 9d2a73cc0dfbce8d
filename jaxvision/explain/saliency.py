"""Signals that go back to the pixels: gradients, guided backpropagation, Zeiler & Fergus' deconvnet, guided Grad-CAM."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.explain.endpoints import Endpoint, outline, prepared, run, spatial
from jaxvision.explain.grad_cam import grad_cam
from jaxvision.explain.rectifiers import with_rule
from jaxvision.explain.targets import Activation, as_targets, scalars, target
from jaxvision.ops.resize import resize

NOTHING = Endpoint("", ())


def saliency(
    architecture: Architecture | nn.Module, variables: Mapping, batch: Any, targets: Any, rule: str = "gradient"
) -> jax.Array:
    """What of each target comes back to the pixels: (B, T, H, W, 3) float32, of an image in 0..1.

    rule: of the ReLUs on the way, "gradient", "guided" (guided backpropagation) or "deconvnet", see
    `jaxvision.explain.rectifiers`. The other arguments are those of `grad_cam`; all targets go back at once, in memory too.
    Raises ValueError for targets that the network has not, for another rule, and for images of whole numbers to a model of
    one's own, which have no gradient.
    """
    network, variables, batch = prepared(architecture, variables, batch)
    targets = as_targets(targets, outline(network, variables, batch).outputs)
    return _signals(network, NOTHING, rule, variables, *_split(batch, network), targets)


def guided_grad_cam(
    architecture: Architecture | nn.Module, variables: Mapping, batch: Any, layer: str, targets: Any
) -> jax.Array:
    """Guided backpropagation where Grad-CAM at the layer, brought to the image's size bilinearly, speaks for the target:
    (B, T, H, W, 3) float32 (Selvaraju et al., "Grad-CAM", ICCV 2017). Arguments and errors are those of `grad_cam`, and
    ValueError for a layer of a network that sees regions one by one."""
    signals = saliency(architecture, variables, batch, targets, "guided")
    maps = grad_cam(architecture, variables, batch, layer, targets)
    if len(maps) != len(signals):
        raise ValueError(
            f"{layer} has {len(maps)} maps for {len(signals)} images: they are of regions, not of the image."
        )
    return signals * resize(jnp.moveaxis(maps, 1, -1), signals.shape[2:4]).transpose(0, 3, 1, 2)[..., None]


def deconvnet(
    architecture: Architecture | nn.Module,
    variables: Mapping,
    batch: Any,
    layer: str,
    channels: Sequence[int],
    place: tuple[int, int] | None = None,
) -> jax.Array:
    """What in the image makes each channel of a layer as strong as it is at its strongest: (B, T, H, W, 3) float32, by Zeiler &
    Fergus' deconvnet ("Visualizing and Understanding Convolutional Networks", ECCV 2014).

    One activation is kept, the highest of its channel or that of cell `place` (row, column), all others of the layer are 0.
    From there the signal goes back by the switches of the max-pools, through ReLUs that keep what is positive of it, and
    transposed filters. Departures: values of a pool that tie share the signal, see `jaxvision.ops.pool`; it passes normalisation
    by the gradient, which the paper leaves out. Raises ValueError for a layer that does not exist or has no height and
    width, and for channels and places beyond it.
    """
    network, variables, batch = prepared(architecture, variables, batch)
    endpoint = spatial(network, variables, batch, layer, differentiable=False)
    offer = outline(network, variables, batch)
    kept = as_targets([Kept(layer, channel, place) for channel in channels], {**offer.modules, **offer.outputs})
    return _signals(network, endpoint, "deconvnet", variables, *_split(batch, network), kept)


@target
class Kept(Activation):
    """Half of its square, whose gradient is the activation itself: the signal that a deconvnet begins with."""

    def __call__(self, outputs):
        return 0.5 * super().__call__(outputs) ** 2


def _split(batch, network):
    """(the image as floats, what else there is in the batch, or None where the batch is the image)."""
    rest = {name: value for name, value in batch.items() if name != "image"} if isinstance(batch, Mapping) else None
    image = jnp.asarray(batch if rest is None else batch["image"])
    if not jnp.issubdtype(image.dtype, jnp.floating):
        if network.predict is None:
            raise ValueError(f"Give {network.name} images of floats: those of {image.dtype} have no gradient.")
        image = image.astype(jnp.float32) / 255
    return image, rest


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _signals(network, endpoint, rule, variables, image, rest, targets):
    def scores(image):
        batch = image if rest is None else {**rest, "image": image}
        return scalars(targets, run(network, variables, batch, endpoint))

    _, pull = jax.vjp(with_rule(scores, rule), image)
    return jnp.swapaxes(jax.vmap(lambda one: pull(one)[0])(jnp.eye(len(targets))), 0, 1)
