"""Pictures of curves between 0 and 1, such as precision over recall."""

from collections.abc import Sequence

import cv2
import numpy as np

from jaxvision.visualize.layout import draw_text, text_size
from jaxvision.visualize.palette import palette

SIDE, LINE = 640, 20  # pixels: of the square from 0 to 1, of a line of text
WHITE, GRID, FRAME = (255,) * 3, (225,) * 3, (150,) * 3
TICKS = np.linspace(0, 1, 6)
SHIFT = 4  # bits of a pixel's fraction that OpenCV takes


def draw_curves(curves: Sequence[tuple], names: Sequence[str], axes: tuple[str, str]) -> np.ndarray:
    """Curves in a square from 0 to 1 with a legend beside it; (H, W, 3) uint8 RGB.

    curves: pairs (x, y) of arrays (n,), joined in their order; one without points is in the legend alone, without a colour.
    names: of the curves. axes: what x and y are. Raises ValueError where numbers differ or a point is not within 0 and 1.
    """
    if len(curves) != len(names):
        raise ValueError(f"{len(curves)} curves with {len(names)} names; give one for each")
    margin = text_size("0.0", LINE)[1] + 2 * LINE
    top, left = 2 * LINE, margin + LINE
    picture = np.full((top + SIDE + 7 * LINE // 2, left + SIDE + LINE, 3), 255, np.uint8)
    for tick in TICKS:
        x, y, text = left + round(tick * SIDE), top + round((1 - tick) * SIDE), f"{tick:.1f}"
        cv2.line(picture, (x, top), (x, top + SIDE), GRID)
        cv2.line(picture, (left, y), (left + SIDE, y), GRID)
        width = text_size(text, LINE)[1]
        draw_text(picture, text, (x - width / 2, top + SIDE + LINE * 2 // 3), LINE, WHITE)
        draw_text(picture, text, (left - width - LINE // 4, y - LINE / 2), LINE, WHITE)
    cv2.rectangle(picture, (left, top), (left + SIDE, top + SIDE), FRAME)
    draw_text(picture, axes[0], (left + (SIDE - text_size(axes[0], LINE)[1]) / 2, top + SIDE + 2 * LINE), LINE, WHITE)
    upright = np.full((*text_size(axes[1], LINE), 3), 255, np.uint8)
    draw_text(upright, axes[1], (0, 0), LINE, WHITE)
    upright = np.rot90(upright)
    y = top + (SIDE - len(upright)) // 2
    picture[y : y + len(upright), LINE // 2 : LINE // 2 + LINE] = upright
    colours = palette(len(names) + 1)[1:]  # without black, the background's
    for (x, y), name, colour in zip(curves, names, colours):
        points = np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)], axis=1)
        if not ((points >= 0) & (points <= 1)).all():
            raise ValueError(f"the curve of {name} leaves 0..1, from {points.min(0)} to {points.max(0)}")
        if len(points):
            places = np.rint((points * [SIDE, -SIDE] + [left, top + SIDE]) * 2**SHIFT).astype(np.int32)
            cv2.polylines(picture, [places], False, tuple(map(int, colour)), 2, cv2.LINE_AA, SHIFT)
    grounds = [colour if len(x) else WHITE for (x, _), colour in zip(curves, colours)]
    return np.concatenate([picture, _legend(names, grounds, picture.shape[0], top)], axis=1)


def _legend(names, grounds, height, top):
    """Names on their colours, in as many columns as the height needs."""
    rows = max(1, (height - 2 * top) // (LINE + 4))
    columns = []
    for start in range(0, max(len(names), 1), rows):
        part = [str(name) for name in names[start : start + rows]]
        width = max((text_size(name, LINE)[1] for name in part), default=0) + LINE
        column = np.full((height, width, 3), 255, np.uint8)
        for n, (name, ground) in enumerate(zip(part, grounds[start : start + rows])):
            draw_text(column, name, (0, top + n * (LINE + 4)), LINE, ground)
        columns.append(column)
    return np.concatenate(columns, axis=1)
