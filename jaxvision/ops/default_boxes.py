"""SSD's default boxes (Liu et al., ECCV 2016, section 2.2), as torchvision lays them. Numpy: they are constants."""

import math
from collections.abc import Sequence

import numpy as np


def linear_scales(low: float, high: float, levels: int) -> tuple[float, ...]:
    """The paper's scales: `levels` of them from `low` to `high`, and 1 to close the last level's second square."""
    return tuple(low + (high - low) * k / max(levels - 1, 1) for k in range(levels)) + (1.0,)


def default_boxes(
    shapes: Sequence[tuple[int, int]],
    canvas: tuple[int, int],
    scales: Sequence[float],
    ratios: Sequence[Sequence[float]],
    steps: Sequence[float] | None = None,
    clip: bool = True,
) -> np.ndarray:
    """Boxes (A, 4) float32 in pixels of the canvas (height, width), level by level, row by row, those of a cell together.

    A cell of level k has 2 + 2 len(ratios[k]) boxes: squares of side scales[k] and sqrt(scales[k] scales[k+1]), shares of
    the canvas, then for each ratio r one of scales[k] (sqrt(r), 1 / sqrt(r)) and one of the inverse. With `clip` a side is at
    most the canvas, as in torchvision and not as published; the corners may lie beyond it. Cell (y, x) has its centre at
    (y + 0.5, x + 0.5) steps[k] pixels, or, without `steps`, canvas / shapes[k].
    """
    levels, extent = [], np.array(canvas[::-1], np.float64)
    for k, (height, width) in enumerate(shapes):
        sides = [(scales[k],) * 2, (math.sqrt(scales[k] * scales[k + 1]),) * 2]
        for ratio in ratios[k]:
            wide, tall = scales[k] * math.sqrt(ratio), scales[k] / math.sqrt(ratio)
            sides += [(wide, tall), (tall, wide)]
        half = np.clip(sides, 0, 1 if clip else None) * extent / 2
        step = extent / (width, height) if steps is None else steps[k]
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        centres = (np.stack([x, y], -1)[:, :, None] + 0.5) * step
        levels.append(np.concatenate([centres - half, centres + half], -1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)
