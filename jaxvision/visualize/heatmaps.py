"""Pictures of what a network looks at: heat-maps over the image, signals at its pixels, maps side by side."""

import cv2
import numpy as np

from jaxvision.visualize.layout import as_uint8, enlarge, enlargement

GAP = 2  # pixels between maps of a grid


def draw_heatmap(image, heat, strength: float = 0.5) -> np.ndarray:
    """The image under a heat-map, blue where nothing and red where most speaks for it; (H', W', 3) uint8 RGB.

    image: (H, W, 3) uint8 or float 0..1. heat: (h, w), a grid over the whole image, brought to its size bilinearly by the
    centres of the cells; divided by its maximum, and what is negative counts as 0. strength: of its colours. A shorter side
    below 384 pixels is enlarged by a whole factor. Raises ValueError for a heat-map that is not (h, w), or not finite.
    """
    image, heat = as_uint8(image), np.asarray(heat, np.float32)
    if heat.ndim != 2 or not np.isfinite(heat).all():
        raise ValueError(f"a heat-map is (h, w) and finite, got {heat.shape}")
    picture = enlarge(image, enlargement(image.shape))
    heat = cv2.resize(heat, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.rint((1 - strength) * picture + strength * _colours(heat)).astype(np.uint8)


def draw_signal(signal) -> np.ndarray:
    """A signal (H, W, 3) at an image's pixels: grey where it is 0, scaled by its greatest value; (H', W', 3) uint8 RGB."""
    signal = np.asarray(signal, np.float32)
    picture = as_uint8(0.5 + 0.5 * signal / max(np.abs(signal).max(), 1e-12))
    return enlarge(picture, enlargement(picture.shape))


def draw_maps(maps, channels=None, count: int = 64) -> np.ndarray:
    """The channels of maps (h, w, D) in rows, each in the colours of a heat-map; (H', W', 3) uint8 RGB.

    channels: which ones, in this order; None: those of the highest maxima, at most `count`, in the order of their numbers.
    """
    maps = np.asarray(maps, np.float32)
    if channels is None:
        channels = np.sort(np.argsort(-maps.max((0, 1)), kind="stable")[:count])
    tiles = [_colours(maps[..., k]) for k in channels]
    factor = -(-48 // max(1, min(maps.shape[:2])))
    tiles = [np.pad(enlarge(tile, factor), ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for tile in tiles]
    columns = int(np.ceil(np.sqrt(len(tiles))))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def _colours(heat):
    """(H, W) over its maximum, from dark blue at 0 or below to dark red."""
    levels = np.rint(255 * np.clip(heat / max(heat.max(), 1e-12), 0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
