"""What is to be explained: a target takes a network's outputs to a number, or to one for each image, and is differentiated.

The classes here are those that come up, each before any softmax or sigmoid, which would mix the classes and let gradients
vanish (Selvaraju et al., "Grad-CAM", ICCV 2017). A function of one's own, of the dict of outputs and predictions, does as well.
Indices are arrays to `jit`: another class compiles nothing anew.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Outputs = Mapping[str, Array]
static = functools.partial(dataclasses.field, metadata={"static": True})


def target(kind: type) -> type:
    """A frozen dataclass whose fields are arrays to `jit`, but for those that are `static`."""
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(kind))


@target
class ClassScore:
    """A class's logit, of a classifier. index: of the class, the same of every image or (B,)."""

    index: int | Array

    def __call__(self, outputs: Outputs) -> Array:
        logits = outputs["logits"]
        index = jnp.broadcast_to(jnp.asarray(self.index), len(logits))
        return jnp.take_along_axis(logits, index[:, None], 1)[:, 0]

    def check(self, shapes: Mapping) -> None:
        shape = shapes["logits"].shape if "logits" in shapes else ()
        if len(shape) != 2 or "valid" in shapes:
            raise ValueError(
                "A class alone is explained of a classifier, whose logits are (B, classes); of a detector say which detection "
                "(DetectionScore), of a segmenter where (RegionScore)."
            )
        within("Class", self.index, shape[1])


@target
class DetectionScore:
    """The logit of a detection's class: of row `index`, the best being 0, the same of every image or (B,).

    An image with fewer detections has 0, and no gradient.
    """

    index: int | Array

    def __call__(self, outputs: Outputs) -> Array:
        logits = jnp.where(outputs["valid"], outputs["score_logits"], 0)
        index = jnp.broadcast_to(jnp.asarray(self.index), len(logits))
        return jnp.take_along_axis(logits, index[:, None], 1)[:, 0]

    def check(self, shapes: Mapping) -> None:
        if "score_logits" not in shapes:
            raise ValueError("There is no detection to explain: the network is no detector.")
        within("Detection", self.index, shapes["score_logits"].shape[1])


@target
class RegionScore:
    """The sum of a class's logits over a region of a segmentation.

    index: of the class, the same of every image or (B,). box: x1 y1 x2 y2 in pixels of the canvas, (4,) or (B,4): the pixels
    whose centres lie within. mask: (H,W) or (B,H,W) on the canvas. Neither: where the class is predicted. Both: their overlap.
    """

    index: int | Array
    box: Array | None = None
    mask: Array | None = None

    def __call__(self, outputs: Outputs) -> Array:
        logits = outputs["logits"]
        count, height, width, _ = logits.shape
        index = jnp.broadcast_to(jnp.asarray(self.index), count)[:, None, None]
        region = jnp.ones((count, height, width), bool)
        if self.mask is not None:
            region &= jnp.asarray(self.mask) > 0
        if self.box is not None:
            box = jnp.broadcast_to(jnp.asarray(self.box, jnp.float32), (count, 4))[:, :, None, None]
            y, x = jnp.arange(height)[:, None] + 0.5, jnp.arange(width) + 0.5
            region &= (x > box[:, 0]) & (y > box[:, 1]) & (x < box[:, 2]) & (y < box[:, 3])
        if self.mask is None and self.box is None:
            region = outputs["semantic"] == index
        values = jnp.take_along_axis(logits, index[..., None], -1)[..., 0]
        return jnp.where(region, values, 0).sum((1, 2))

    def check(self, shapes: Mapping) -> None:
        shape = shapes["logits"].shape if "logits" in shapes else ()
        if len(shape) != 4 or "valid" in shapes:
            raise ValueError("A region is explained of a segmenter, whose logits are (B, H, W, classes).")
        within("Class", self.index, shape[3])
        if self.mask is not None and np.shape(self.mask) not in (shape[1:3], shape[:3]):
            raise ValueError(f"The region's mask has shape {np.shape(self.mask)}, the canvas {shape[1:3]}.")
        if self.box is not None and np.shape(self.box) not in ((4,), (shape[0], 4)):
            raise ValueError(f"The region's box has shape {np.shape(self.box)}; give (4,): x1 y1 x2 y2.")


@target
class JointScore:
    """Of a joint the highest logit of its heat-map, in the detection of row `detection`; where a network has no heat-maps
    but says coordinates, the one that `axis` names, "x" or "y", in pixels."""

    index: int | Array
    detection: int | Array = 0
    axis: str = static(default="")

    def __call__(self, outputs: Outputs) -> Array:
        if not self.axis:
            heatmaps = jnp.moveaxis(outputs["keypoint_heatmaps"], -1, 2)  # B, D, K, s, s
            own = heatmaps[:, self.detection, self.index]
            return jnp.where(outputs["valid"][:, self.detection], own.max((-2, -1)), 0)
        return outputs["joints"][:, self.index, "xy".index(self.axis)]

    def check(self, shapes: Mapping) -> None:
        if "keypoint_heatmaps" in shapes and not self.axis:
            shape = shapes["keypoint_heatmaps"].shape
            within("Detection", self.detection, shape[1])
            within("Joint", self.index, shape[-1])
        elif "joints" in shapes and self.axis in ("x", "y"):
            within("Joint", self.index, shapes["joints"].shape[1])
        else:
            raise ValueError(
                "A joint is explained by its heat-map where a network has `keypoint_heatmaps`, and by a coordinate, "
                f'axis="x" or "y", where it predicts `joints`; this one has {"" if "joints" in shapes else "no "}`joints` and '
                f"{'' if 'keypoint_heatmaps' in shapes else 'no '}`keypoint_heatmaps`, and axis is {self.axis!r}."
            )


@target
class Activation:
    """One activation of a map: of channel `index` the highest, or that of cell `place` (row, column).

    The layer is one of the outputs' names. `place` is the same of every image.
    """

    layer: str = static()
    index: int | Array = 0
    place: tuple | None = None

    def __call__(self, outputs: Outputs) -> Array:
        values = jnp.take(outputs[self.layer], jnp.asarray(self.index), axis=-1)
        if self.place is not None:
            return values[:, self.place[0], self.place[1]]
        values = values.reshape(len(values), -1)
        return jnp.take_along_axis(values, values.argmax(1)[:, None], 1)[:, 0]

    def check(self, shapes: Mapping) -> None:
        if len(shapes[self.layer].shape) != 4:
            raise ValueError(f"{self.layer} has shape {shapes[self.layer].shape}: a map needs height and width.")
        within("Channel", self.index, shapes[self.layer].shape[3])
        for axis, cell in enumerate(self.place or ()):
            within(("Row", "Column")[axis], cell, shapes[self.layer].shape[1 + axis])


@target
class Own:
    """A function of the outputs."""

    function: Callable[[Outputs], Array] = static()

    def __call__(self, outputs: Outputs) -> Array:
        return self.function(outputs)

    def check(self, shapes: Mapping) -> None:
        pass


def within(what: str, index, count: int) -> None:
    """Raises ValueError for an index beyond 0 .. count - 1; one that is being traced cannot be looked at."""
    if isinstance(index, jax.core.Tracer):
        return
    index = np.ravel(index)
    if index.size and not np.issubdtype(index.dtype, np.integer):
        raise ValueError(f"{what} {index[0]} is not a whole number.")
    wrong = index[(index < 0) | (index >= count)]
    if wrong.size:
        raise ValueError(f"{what} {wrong[0]} does not exist: there are {count}, 0 to {count - 1}.")


def as_targets(targets: Sequence | Array | Callable | int, shapes: Mapping) -> tuple:
    """Targets from what a caller may give: one or several of classes, functions, or targets; or classes as an array (T,), or
    (B,T), those of each image. shapes: of the outputs.

    Raises ValueError for none, and for those that the network has not.
    """
    if callable(targets) or np.ndim(targets) == 0:
        targets = (targets,)
    elif not isinstance(targets, list | tuple) and np.ndim(targets) == 2:
        targets = tuple(targets.T)
    found = tuple(_as_target(target) for target in targets)
    if not found:
        raise ValueError("There is nothing to explain: give at least one target.")
    for one in found:
        one.check(shapes)
    return found


def _as_target(target):
    if hasattr(target, "check"):
        return target
    return Own(target) if callable(target) else ClassScore(target)


def scalars(targets: Sequence[Callable], outputs: Outputs) -> Array:
    """(T,) float32: of each target the sum over the images, whose gradients do not mix as no image sees another."""
    return jnp.stack([jnp.sum(one(outputs).astype(jnp.float32)) for one in targets])
