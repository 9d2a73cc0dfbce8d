"""Anchor boxes as Faster R-CNN lays them over its maps. Numpy: the shapes are static, so the anchors are constants."""

from collections.abc import Sequence

import numpy as np


def base_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Anchors (A, 4) float32 centred on 0, ratio-major then size, A = len(ratios) * len(sizes).

    A ratio is height / width at the area size². Corners are rounded half to even, as torchvision does:
    size 32 at ratio 0.5 is -23 -11 23 11.
    """
    scales = np.sqrt(np.asarray(ratios, np.float32))[:, None]
    sizes = np.asarray(sizes, np.float32)
    heights, widths = (scales * sizes).ravel(), (1 / scales * sizes).ravel()
    return np.round(np.stack([-widths, -heights, widths, heights], 1) / 2)


def legacy_anchors(sizes: Sequence[float], ratios: Sequence[float], stride: int = 16) -> np.ndarray:
    """Anchors (A, 4) float32 of the first cell as Faster R-CNN's authors have them, ratio-major then size.

    Sides of the ratio's box of stride² are rounded to whole pixels, height after width and halves to even, and then scaled;
    all stand on the cell's middle. The code's -84 -40 99 55, Matlab's -83 -39 100 56, are pixels, the last included; here
    that is -84 -40 100 56.
    """
    widths = np.round(stride / np.sqrt(np.asarray(ratios, np.float64)))
    sides = np.stack([widths, np.round(widths * ratios)], 1)
    halves = (sides[:, None] * (np.asarray(sizes, np.float64) / stride)[:, None] / 2).reshape(-1, 2)
    return np.concatenate([stride / 2 - halves, stride / 2 + halves], 1).astype(np.float32)


def grid_anchors(base: np.ndarray, height: int, width: int, stride: int | tuple[int, int]) -> np.ndarray:
    """Anchors (height * width * A, 4): `base` (A, 4) moved to every cell of a map.

    They go row by row, the A of a cell together. Cell (y, x) stands at (y, x) * stride, without half a cell, as in
    torchvision. `stride` is one number or (y, x).
    """
    stride_y, stride_x = np.broadcast_to(stride, 2)
    y, x = np.meshgrid(np.arange(height) * stride_y, np.arange(width) * stride_x, indexing="ij")
    shifts = np.stack([x, y, x, y], -1).astype(np.float32)
    return (shifts[:, :, None] + base).reshape(-1, 4)


def pyramid_anchors(
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float],
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int | tuple[int, int]],
    legacy: bool = False,
) -> list[np.ndarray]:
    """`grid_anchors` of each level: level i has the sizes `sizes[i]`, all `ratios`, and a map of `shapes[i]` cells.

    legacy: of `legacy_anchors`, not `base_anchors`.
    """
    return [
        grid_anchors(
            legacy_anchors(level, ratios, min(np.broadcast_to(stride, 2))) if legacy else base_anchors(level, ratios),
            *shape,
            stride,
        )
        for level, shape, stride in zip(sizes, shapes, strides)
    ]
