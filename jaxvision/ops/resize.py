"""Resizing as torch does it, and the transposed convolution that learns it."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxvision.ops.interpolation import cubic, linear_weights


def resize(
    x: Array,
    size: int | tuple[int, int],
    method: str = "bilinear",
    align_corners: bool = False,
    antialias: bool = False,
) -> Array:
    """x (..., H, W, C) at `size` = (height, width), exactly as `torch.nn.functional.interpolate` has it.

    "nearest" takes sample floor(i * H / height) and keeps any dtype; "bilinear" and "bicubic" (a = -0.75) compute in
    float32, or in float64 where x has it, and keep a floating dtype. `align_corners` puts the first and last samples of
    both grids on each other. `antialias` widens the kernel where the picture shrinks (and has a = -0.5 for bicubic, as
    torch and Pillow do). Differentiable; each axis is one multiplication by a constant matrix.

    Raises ValueError for another method, and for `antialias` where torch defines none.
    """
    if method not in ("nearest", "bilinear", "bicubic"):
        raise ValueError(f'method is {method!r}; "nearest", "bilinear" and "bicubic" exist')
    if antialias and (align_corners or method == "nearest"):
        raise ValueError(
            f"antialias goes with bilinear or bicubic and align_corners=False, not {method}, {align_corners}"
        )
    height, width = (int(n) for n in np.broadcast_to(size, 2))
    if method == "nearest":
        rows, columns = (_nearest(i, o) for i, o in ((x.shape[-3], height), (x.shape[-2], width)))
        return x[..., rows, :, :][..., columns, :]
    rows, columns = (
        weight_matrix(i, o, method, align_corners, antialias) for i, o in ((x.shape[-3], height), (x.shape[-2], width))
    )
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    rows, columns = rows.astype(x.dtype), columns.astype(x.dtype)
    if height != x.shape[-3] or align_corners:
        x = jnp.einsum("oy,...yxc->...oxc", rows, x, precision="highest")
    if width != x.shape[-2] or align_corners:
        x = jnp.einsum("ox,...yxc->...yoc", columns, x, precision="highest")
    return x.astype(dtype)


def _nearest(extent: int, out: int) -> np.ndarray:
    scale = np.float32(extent) / np.float32(out)  # in float32, as torch has it
    return np.minimum(np.floor(np.arange(out, dtype=np.float32) * scale), extent - 1).astype(np.int32)


def weight_matrix(
    extent: int, out: int, method: str = "bilinear", align_corners: bool = False, antialias: bool = False
) -> np.ndarray:
    """Weights (out, extent) of each input sample in each output sample, float64. Numpy; the arguments are `resize`'s."""
    i = np.arange(out, dtype=np.float64)
    if align_corners:
        positions = i * ((extent - 1) / (out - 1) if out > 1 else 0)
    else:
        positions = (i + 0.5) * (extent / out) - 0.5
    if antialias:
        stretch = max(extent / out, 1)
        distance = (positions[:, None] - np.arange(extent)) / stretch
        weights = cubic(distance, -0.5) if method == "bicubic" else (1 - abs(distance)).clip(0)
        weights /= weights.sum(1, keepdims=True)
    elif method == "bilinear":
        weights = linear_weights(positions, extent)
    else:
        taps = np.floor(positions)[:, None] + np.arange(-1, 3)
        weights = np.zeros((out, extent))
        columns = taps.clip(0, extent - 1).astype(int)
        np.add.at(weights, (np.arange(out)[:, None], columns), cubic(positions[:, None] - taps, -0.75))
    return weights


def bilinear_kernel(size: int) -> np.ndarray:
    """The (size, size) float32 kernel with which FCN begins its transposed convolutions (Long et al., CVPR 2015).

    With stride s, size 2s - s % 2 and padding (size - s) // 2, rounded up, it interpolates bilinearly.
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    line = 1 - abs(np.arange(size) - centre) / factor
    return np.outer(line, line).astype(np.float32)


def conv_transpose(x: Array, kernel: Array, stride: int, padding: int, output_padding: int = 0) -> Array:
    """Torch's ConvTranspose2d: x (B, H, W, I) and kernel (kh, kw, O, I) to (B, H', W', O).

    H' = (H - 1) * stride - 2 * padding + kh + output_padding. The kernel is torch's (in, out, kh, kw) transposed by
    (2, 3, 1, 0): input (y, x) adds x * kernel[i, j] to output (y * stride + i - padding, x * stride + j - padding).

    With a stride this is one matrix product, whose blocks of stride² outputs are added where they overlap: on a CPU the
    gradient is five to twenty times quicker than that of a dilated convolution.
    """
    height, width, out, channels = kernel.shape
    if stride == 1:
        pads = [(k - 1 - padding, k - 1 - padding + output_padding) for k in (height, width)]
        numbers = ("NHWC", "HWOI", "NHWC")
        return lax.conv_general_dilated(x, kernel[::-1, ::-1], (1, 1), pads, dimension_numbers=numbers)
    down, across = -(-height // stride), -(-width // stride)  # blocks that one input reaches
    kernel = jnp.pad(kernel, ((0, down * stride - height), (0, across * stride - width), (0, 0), (0, 0)))
    kernel = kernel.reshape(down, stride, across, stride, out, channels).transpose(5, 0, 2, 1, 3, 4)
    products = jnp.tensordot(x, kernel.reshape(channels, down, across, -1), 1)
    blocks = sum(
        jnp.pad(products[:, :, :, i, j], ((0, 0), (i, down - 1 - i), (j, across - 1 - j), (0, 0)))
        for i in range(down)
        for j in range(across)
    )
    batch, rows, columns, _ = blocks.shape
    blocks = blocks.reshape(batch, rows, columns, stride, stride, out).swapaxes(2, 3)
    result = blocks.reshape(batch, rows * stride, columns * stride, out)
    sizes = [(n - 1) * stride - 2 * padding + k + output_padding for n, k in zip(x.shape[1:3], (height, width))]
    crop = [(-padding, size + padding - n, 0) for size, n in zip(sizes, result.shape[1:3])]
    return lax.pad(result, jnp.zeros((), result.dtype), [(0, 0, 0), *crop, (0, 0, 0)])
