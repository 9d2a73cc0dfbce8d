"""Maps of evidence on the host: brought to another size, to 0..1, and to a box.

A map's cells tile the image: cell i of n is centred at (i + 1/2) / n of the side.
"""

import functools

import cv2
import numpy as np

# Shares of a map's maximum from which on a place belongs to the object.
CAM = 0.2  # Zhou et al., CVPR 2016
GRAD_CAM = 0.15  # Selvaraju et al., ICCV 2017


def resize_map(evidence, size: tuple[int, int], extent=None, cubic: bool = False) -> np.ndarray:
    """A map (h, w), or several (h, w, K), at `size`, (height, width), float64.

    Bilinear between the cells' centres, or bicubic with OpenCV's kernel; beyond the outermost centres the edge continues.
    extent: the rows and columns of the grid, from its upper left, that the image covers; by default all.
    Raises ValueError for a map without space, and for values that are not finite.
    """
    evidence = np.asarray(evidence, np.float64)
    if evidence.ndim not in (2, 3) or 0 in evidence.shape[:2]:
        raise ValueError(f"a map of evidence has shape {evidence.shape}, expected (h, w) or (h, w, K) with h, w >= 1")
    if not np.isfinite(evidence).all():
        raise ValueError("a map of evidence holds NaN or infinity")
    extent = evidence.shape[:2] if extent is None else extent
    rows, columns = (_weights(n, float(e), int(s), cubic) for n, e, s in zip(evidence.shape, extent, size))
    return np.moveaxis(np.tensordot(columns, np.tensordot(rows, evidence, 1), (1, 1)), 0, 1)


@functools.lru_cache(maxsize=64)
def _weights(cells: int, extent: float, size: int, cubic: bool) -> np.ndarray:
    """(size, cells): what each cell contributes to each pixel along a side."""
    place = (np.arange(size) + 0.5) * extent / size - 0.5
    first = np.floor(place).astype(int)
    weights = np.zeros((size, cells))
    for step in range(-1, 3) if cubic else range(2):
        distance = abs(place - (first + step))
        np.add.at(weights, (np.arange(size), (first + step).clip(0, cells - 1)), _kernel(distance, cubic))
    return weights


def _kernel(distance, cubic):
    """Of the linear interpolation, or Keys' of the cubic one with a = -0.75."""
    if not cubic:
        return 1 - distance
    d, a = distance, -0.75
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, far)


def unit_range(evidence: np.ndarray) -> np.ndarray:
    """A map's least value to 0 and its greatest to 1; one that is constant but for rounding tells nothing: 0 everywhere."""
    low, high = evidence.min(), evidence.max()
    flat = high - low <= 1e-12 * max(abs(low), abs(high))
    return np.zeros_like(evidence) if flat else (evidence - low) / (high - low)


def component_box(evidence: np.ndarray, threshold: float = CAM) -> np.ndarray:
    """(4,) float32: x1 y1 x2 y2 around the largest component of a map (H, W) above `threshold` times its maximum.

    Pixels that touch, at a corner too, are of one component; the largest has the most, and of equal ones it is one of them.
    Where nothing is above zero there is no evidence, and the box is 0 0 0 0.
    """
    found = (evidence > threshold * evidence.max()) & (evidence > 0)
    _, _, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=8)
    if len(stats) < 2:
        return np.zeros(4, np.float32)
    x, y, width, height, _ = stats[1:][stats[1:, cv2.CC_STAT_AREA].argmax()]
    return np.array([x, y, x + width, y + height], np.float32)
