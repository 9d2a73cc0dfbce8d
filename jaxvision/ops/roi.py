"""RoIAlign on one map and on a feature pyramid (He et al., "Mask R-CNN", ICCV 2017)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.ops import boxes as box_ops
from jaxvision.ops.interpolation import cell_samples, sampling_matrix


def roi_align(
    features: Array,
    rois: Array,
    size: int | tuple[int, int],
    scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
    impl: str = "gather",
    max_sampling: int | None = None,
) -> Array:
    """Features (R, h, w, C) of the RoIs (R, 4) on a map (H, W, C), `size` = (h, w) cells each.

    The rule is torchvision's: `scale` takes pixels to map cells; a cell of the RoI is the mean of sampling_ratio²
    bilinear samples; a sample more than a cell beyond the map is 0. `aligned` sets a pixel's value at its centre;
    without it coordinates are half a cell off and a RoI is at least one cell wide, as torchvision's own detectors have
    it. sampling_ratio = -1 takes ceil(RoI / size) samples an axis, at most `max_sampling` (default: enough for any RoI
    that lies in the map).

    `impl` says how, not what: "gather" fetches every tap, "einsum" multiplies by two interpolation matrices, (R, h, H)
    and (R, w, W), which is quicker on small maps. Differentiable in the RoIs too, which torchvision's is not.

    Raises ValueError for another `impl`.
    """
    levels = jnp.zeros(len(rois), jnp.int32)
    return pyramid_roi_align([features], rois, levels, size, [scale], sampling_ratio, aligned, impl, max_sampling)


def assign_levels(
    rois: Array, lowest: int, highest: int, canonical_level: int = 4, canonical_size: float = 224
) -> Array:
    """Pyramid level of each RoI (R, 4), counted from 0 at `lowest`: (R,) int32 in 0..highest - lowest.

    Lin et al., "Feature Pyramid Networks", CVPR 2017, equation 1: a RoI of `canonical_size`² pixels goes to
    `canonical_level`, one of half that side a level lower. Torchvision's 1e-6 keeps exact powers from rounding down.
    """
    side = jnp.sqrt(box_ops.area(rois))
    level = jnp.floor(canonical_level + jnp.log2(side / canonical_size) + 1e-6)
    return (jnp.clip(level, lowest, highest) - lowest).astype(jnp.int32)


def pyramid_roi_align(
    features: Sequence[Array],
    rois: Array,
    levels: Array,
    size: int | tuple[int, int],
    scales: Sequence[float],
    sampling_ratio: int = 2,
    aligned: bool = True,
    impl: str = "gather",
    max_sampling: int | None = None,
) -> Array:
    """`roi_align` of each RoI on its own level: (R, h, w, C) from maps (H_l, W_l, C), `levels` (R,) counting from 0.

    "gather" fetches taps from the flattened pyramid, so a RoI costs the same on any pyramid; "einsum" works on every
    level with the other levels' weights at 0 and adds up, for small maps. Arithmetic is float32, the result has the
    features' dtype.
    """
    if impl not in ("gather", "einsum"):
        raise ValueError(f'impl is {impl!r}; "gather" and "einsum" exist')
    cells = np.broadcast_to(size, 2)
    extents = np.array([f.shape[:2] for f in features])
    bounds = [max_sampling or -(-int(most) // int(n)) for most, n in zip(extents.max(0), cells)]
    if impl == "gather":
        pool = _gather(features, extents, levels)
        scale = jnp.array(scales, jnp.float32)[levels]
        return pool(*(_samples(rois, scale, axis, cells, sampling_ratio, bounds, aligned) for axis in (0, 1)))
    total = 0
    for level, (feature, scale) in enumerate(zip(features, scales)):
        rows, columns = (
            sampling_matrix(*_samples(rois, scale, axis, cells, sampling_ratio, bounds, aligned), extent, border=1)
            for axis, extent in enumerate(feature.shape[:2])
        )
        rows = jnp.where((levels == level)[:, None, None], rows, 0)
        total += separable(feature.astype(jnp.float32), rows, columns)
    return total.astype(features[0].dtype)


def _samples(rois, scale, axis, cells, sampling_ratio, bounds, aligned):
    """`cell_samples` of the RoIs along y (axis 0) or x (axis 1), in map cells."""
    low, high = (rois[:, corner] * scale - 0.5 * aligned for corner in (1 - axis, 3 - axis))
    length = high - low if aligned else jnp.maximum(high - low, 1)
    return cell_samples(low, length, int(cells[axis]), sampling_ratio, bounds[axis])


@jax.custom_vjp
def separable(feature, rows, columns):
    """Cells (R, h, w, C) of a map (H, W, C) by matrices (R, h, H) and (R, w, W).

    The gradient is written out because that of an einsum takes twice as long on a CPU: XLA transposes the largest array
    there.
    """
    return _matmul(jnp.broadcast_to(columns[:, None], rows.shape[:2] + columns.shape[1:]), _rows(feature, rows))


def separable_forward(feature, rows, columns):
    return separable(feature, rows, columns), (feature, rows, columns)


def separable_backward(residuals, gradient):
    feature, rows, columns = residuals
    flat = rows.reshape(-1, rows.shape[-1])
    transposed = jnp.broadcast_to(columns.swapaxes(1, 2)[:, None], rows.shape[:2] + columns.shape[:0:-1])
    partial = _matmul(transposed, gradient)
    d_feature = _matmul(flat.T, partial.reshape(len(flat), -1)).reshape(feature.shape)
    d_rows = jnp.einsum("rhxc,yxc->rhy", partial, feature, precision="highest")
    d_columns = jnp.einsum("rhwc,rhxc->rwx", gradient, _rows(feature, rows), precision="highest")
    return d_feature, d_rows, d_columns


separable.defvjp(separable_forward, separable_backward)


def _rows(feature, rows):
    """Rows (R, h, W, C) of a map (H, W, C), mixed by `rows` (R, h, H), as one flat product."""
    flat = _matmul(rows.reshape(-1, rows.shape[-1]), feature.reshape(len(feature), -1))
    return flat.reshape(rows.shape[:2] + feature.shape[1:])


def _matmul(a, b):
    return jnp.matmul(a, b, precision="highest")


def _gather(features, extents, levels):
    flat = jnp.concatenate([f.reshape(-1, f.shape[-1]) for f in features])
    sizes = extents.prod(1)
    offset = jnp.array(sizes.cumsum() - sizes)[levels][:, None, None, None, None]
    extents = jnp.array(extents)[levels]

    def taps(positions, weights, extent):
        """Indices and weights (R, cells, 2S) of the two neighbours of each sample."""
        extent = extent[:, None, None]
        weights = jnp.where((positions >= -1) & (positions <= extent), weights, 0)
        positions = jnp.clip(positions, 0, extent - 1)
        first = jnp.floor(positions)
        second_weight = positions - first
        index = jnp.concatenate([first, jnp.minimum(first + 1, extent - 1)], -1).astype(jnp.int32)
        return index, jnp.concatenate([weights * (1 - second_weight), weights * second_weight], -1)

    def pool(y_samples, x_samples):
        y, y_weights = taps(*y_samples, extents[:, 0])
        x, x_weights = taps(*x_samples, extents[:, 1])
        width = extents[:, 1][:, None, None, None, None]
        values = flat[offset + y[:, :, :, None, None] * width + x[:, None, None]]  # R, h, 2S, w, 2S, C
        weights = y_weights[:, :, :, None, None] * x_weights[:, None, None]
        return (values * weights[..., None]).sum((2, 4)).astype(flat.dtype)

    return pool
