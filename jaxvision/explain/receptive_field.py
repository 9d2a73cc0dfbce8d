"""How much of an image a cell of a map sees, measured rather than added up from layers."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.architecture import Architecture


def receptive_field(architecture: Architecture, name: str, canvas: tuple[int, int] = (512, 512)) -> tuple[int, int]:
    """(height, width) in pixels of what a cell in the middle of the map `name`, as "c4", depends on.

    The extent of the gradient of that cell through a network whose weights are all positive, so that no ReLU is closed, with
    respect to two images: one grows brighter to the lower right, where each max-pool then takes its last cell, and the other
    to the upper left. A dilated network does not depend on every pixel in between.

    Raises ValueError for a map that the model does not return, and where the field reaches the border of the canvas.
    """
    y, x = (np.linspace(0.3, 0.5, side, dtype=np.float32) for side in canvas)  # together brighter than ImageNet's mean
    ramp = np.repeat((y[:, None] + x)[..., None], 3, -1)
    batch = {"image": np.stack([ramp, ramp[::-1, ::-1]]), "image_size": np.array([canvas] * 2, np.int32)}
    shapes = jax.eval_shape(architecture.init, jax.random.key(0), batch)
    variables = {kind: jax.tree_util.tree_map_with_path(_positive, tree) for kind, tree in shapes.items()}
    maps = {k: v for k, v in jax.eval_shape(architecture.model.apply, variables, batch).items() if v.ndim == 4}
    if name not in maps:
        raise ValueError(f"{architecture.name} returns no map {name!r}; there are {', '.join(sorted(maps))}.")

    @jax.jit
    @jax.grad
    def gradient(image):
        cells = architecture.model.apply(variables, {**batch, "image": image})[name]
        return cells[:, cells.shape[1] // 2, cells.shape[2] // 2].sum()

    seen = np.asarray(gradient(jnp.asarray(batch["image"]))).any((0, -1))
    spans = [np.flatnonzero(seen.any(axis)) for axis in (1, 0)]
    if any(span[0] == 0 or span[-1] == side - 1 for span, side in zip(spans, canvas)):
        raise ValueError(
            f"A cell of {name} sees as far as the border of {canvas[0]} x {canvas[1]} pixels: give a larger canvas, "
            "unless it looks at the whole image, as behind a global mean."
        )
    return tuple(int(span[-1] - span[0] + 1) for span in spans)


def _positive(path, leaf):
    """Kernels that take the mean of what they see, no biases, norms that change nothing."""
    kind = path[-1].key
    if kind in ("scale", "var"):
        return jnp.ones(leaf.shape, leaf.dtype)
    if len(leaf.shape) > 1:
        return jnp.full(leaf.shape, 1 / np.prod(leaf.shape[:-1]), leaf.dtype)
    return jnp.zeros(leaf.shape, leaf.dtype)
