"""Segmentation by a sliding window: each pixel takes the class of the patch around it.

As in Farabet et al., "Learning Hierarchical Features for Scene Labeling", PAMI 2013, and Pinheiro & Collobert, "Recurrent
Convolutional Neural Networks for Scene Labeling", ICML 2014, and without their pyramids, superpixels and recurrence. The same
weights can see every patch by itself, or the image once: convolutions without padding whose pools have stride 1 and whose later
layers are dilated instead compute, at every pixel, what the patch's network computes. The results are equal, the work is not.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import network_input
from jaxvision.models.segmentation.objective import objective, segmentation_predict

BLOCK = 256  # patches seen at once


class PatchNet(nn.Module):
    """Scores (B,H-P+1,W-P+1,num_classes) of every patch of P x P pixels in x (B,H,W,3), beside the maps before its dense layers.

    depth 3x3 convolutions of each of the widths, each level with a 2x2 pool behind it, then a dense layer over the kernel x
    kernel cells that are left of a patch, and the scores. dense: see the whole of x at stride 1; otherwise x is patches.
    """

    num_classes: int
    widths: Sequence[int]
    depth: int
    kernel: int
    fc: int
    dropout: float
    norm: str
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, dense: bool) -> dict[str, jax.Array]:
        maps, dilation = {}, 1

        def conv(x, width, kernel, name):
            common = dict(padding=0, bias=self.norm == "none", dtype=self.dtype, dilation=dilation)
            x = Conv(width, kernel, **common, name=name)(x)
            return nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"{name}_norm")(x, train))

        for level, width in enumerate(self.widths, 1):
            for i in range(self.depth):
                x = conv(x, width, 3, f"level{level}_conv{i}")
            for axis in (1, 2):
                x = _pool(x, axis, dilation, 1 if dense else 2)
            dilation *= 2 if dense else 1
            x = maps[f"c{level}"] = self.perturb(f"c{level}", x)
        x = conv(x, self.fc, self.kernel, "fc")
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return {**maps, "logits": Conv(self.num_classes, 1, name="logits")(x.astype(jnp.float32))}

    def side(self) -> int:
        """P, the side of a patch."""
        side = self.kernel
        for _ in self.widths:
            side = 2 * side + 2 * self.depth
        return side


def _pool(x: jax.Array, axis: int, distance: int, stride: int) -> jax.Array:
    """The greater of each two cells that lie `distance` apart."""
    count = x.shape[axis] - distance
    return jnp.maximum(*(lax.slice_in_dim(x, i, i + count, stride, axis) for i in (0, distance)))


class SlidingWindow(nn.Module):
    """`logits` (B,H,W,num_classes) of the patch around each pixel; beyond the image there is its mean colour.

    view: "convolution" sees the canvas once and returns the maps c1, c2, ... too; "patches" sees each patch by itself.
    samples: in training, with randomness for "sampler", only so many labelled pixels of each image are seen: `pixel_logits`
    (B,samples,num_classes) of `pixels` (B,samples), y * W + x; there is no `logits` then. 0: all pixels.
    """

    trunk: PatchNet
    view: str
    samples: int

    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x = network_input(batch)
        count, height, width, _ = x.shape
        side = self.trunk.side()
        before = side // 2
        x = jnp.pad(x, ((0, 0), *[(before, side - 1 - before)] * 2, (0, 0)))
        patches = functools.partial(_patches, side=side, width=width)
        if train and self.samples:
            priority = jax.random.uniform(self.make_rng("sampler"), (count, height * width))
            labelled = batch["semantic"].reshape(count, -1) != 255
            _, pixels = lax.top_k(jnp.where(labelled, priority, -1), min(self.samples, height * width))
            seen = jax.vmap(patches)(x, pixels).reshape(-1, side, side, 3)
            scores = self.trunk(seen, train, False)["logits"]
            return {"pixel_logits": scores.reshape(*pixels.shape, -1), "pixels": pixels}
        if self.view == "convolution" or train or self.is_initializing():  # in training the scores are the same
            return self.trunk(x, train, True)

        every = jnp.arange(height * width)
        blocks = jnp.pad(every, (0, -len(every) % BLOCK)).reshape(-1, BLOCK)
        trunk, variables = self.trunk.clone(parent=None), self.trunk.variables

        def see(image):
            scores = lax.map(
                lambda pixels: trunk.apply(variables, patches(image, pixels), train, False)["logits"], blocks
            )
            return scores.reshape(len(blocks) * BLOCK, -1)[: len(every)].reshape(height, width, -1)

        return {"logits": lax.map(see, x)}


def _patches(image: jax.Array, pixels: jax.Array, side: int, width: int) -> jax.Array:
    """The patches (S,side,side,3) of an image, padded, that begin at pixels (S,), y * width + x."""
    return jax.vmap(lambda pixel: lax.dynamic_slice(image, (pixel // width, pixel % width, 0), (side, side, 3)))(pixels)


def _at(field: jax.Array, pixels: jax.Array) -> jax.Array:
    """A field (H,W,...) at pixels (S,), y * W + x."""
    return field.reshape(-1, *field.shape[2:])[pixels]


def sampled(losses):
    """The losses of those pixels that were seen, where not all of them were."""

    def of(outputs, batch):
        if "pixel_logits" not in outputs:
            return losses(outputs, batch)
        names = [name for name in ("semantic", "semantic_labels", "pixel_weights") if name in batch]
        seen = {name: jax.vmap(_at)(batch[name], outputs["pixels"]) for name in names}
        return losses({"logits": outputs["pixel_logits"]}, {**batch, **seen})

    return of


def sliding_window(
    num_classes: int,
    widths: Sequence[int] = (16, 32, 64),
    depth: int = 1,
    kernel: int = 3,
    fc: int = 256,
    dropout: float = 0.5,
    view: str = "convolution",
    samples: int = 256,
    loss: Mapping[str, Any] | None = None,
    norm: str = "none",
    axis: str | None = None,
    dtype: Any = jnp.float32,
) -> Architecture:
    """A classifier of patches at every pixel; by default of 38 x 38 pixels.

    widths: of its levels, each of `depth` convolutions and a pool. kernel, fc: cells and channels of its dense layer. view:
    "convolution" or "patches", two ways to the same scores. samples: labelled pixels of an image that a training step sees; 0:
    all. Raises ValueError for another view.
    """
    if view not in ("convolution", "patches"):
        raise ValueError(f'view {view!r} is not "convolution" or "patches".')
    trunk = PatchNet(num_classes, tuple(widths), depth, kernel, fc, dropout, norm, axis, dtype)
    model = SlidingWindow(trunk, view, samples)
    return Architecture("sliding_window", model, sampled(objective(loss)), segmentation_predict, "segmentation")
