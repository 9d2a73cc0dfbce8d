"""Pictures of confusion matrices."""

import numpy as np

from jaxvision.visualize.layout import draw_text, text_size
from jaxvision.visualize.palette import palette

LINE, CELL = 20, 60  # pixels: a line of text, a side of a cell, less where classes are many
SIDE = 3000  # pixels of all cells, about
WHITE, EMPTY, GRID = (255,) * 3, (225,) * 3, (205,) * 3
FULL = np.array((8, 69, 148))  # of 100 percent; 0 is white


def draw_confusion(matrix, class_names) -> np.ndarray:
    """What the pixels or objects of each class, a row, were predicted as, the columns, in percent of the row.

    Returns (H, W, 3) uint8 RGB.
    matrix: (C, C) counts, rows truth, columns prediction. An empty cell has no number, nor has any where there are more
    than fifty classes; the row of a class that the truth does not hold is grey. Names stand on the colours of their classes.
    Raises ValueError for another shape and for what are no counts.
    """
    matrix, count = np.asarray(matrix, np.float64), len(class_names)
    if matrix.shape != (count, count) or not (matrix >= 0).all():
        raise ValueError(
            f"expected counts ({count}, {count}) for {count} names, got {matrix.shape}, of them {(~(matrix >= 0)).sum()} "
            "below 0 or not a number"
        )
    names, cell = [str(name) for name in class_names], max(LINE + 1, min(CELL, SIDE // max(count, 1)))
    margin = max(text_size(text, LINE)[1] for text in (*names, "truth")) + LINE
    top, side = margin + 2 * LINE, count * cell
    picture = np.full((top + side + LINE, margin + side + LINE, 3), 255, np.uint8)
    picture[top : top + side, :margin] = _names(names, cell, margin, right=True)
    picture[2 * LINE : top, margin : margin + side] = np.rot90(_names(names, cell, margin, right=False))  # read upwards
    draw_text(picture, "truth", (margin - LINE // 2 - text_size("truth", LINE)[1], top - 3 * LINE // 2), LINE, WHITE)
    title = "prediction, %"
    draw_text(picture, title, (margin + (side - text_size(title, LINE)[1]) / 2, LINE // 2), LINE, WHITE)
    picture[top : top + side + 1, margin : margin + side + 1] = GRID
    for i, row in enumerate(matrix):
        for j, pixels in enumerate(row):
            share = pixels / row.sum() if row.any() else None
            colour = EMPTY if share is None else np.rint(255 + share * (FULL - 255)).astype(np.uint8)
            y, x = top + i * cell, margin + j * cell
            picture[y + 1 : y + cell, x + 1 : x + cell] = colour
            if share and cell == CELL:
                text = f"{100 * share:.1f}"
                draw_text(
                    picture, text, (x + (CELL - text_size(text, LINE)[1]) / 2, y + (CELL - LINE) / 2), LINE, colour
                )
    return picture


def _names(names, cell, width, right):
    """A name for each cell of a column, on its class's colour."""
    strip = np.full((len(names) * cell, width, 3), 255, np.uint8)
    for n, (name, colour) in enumerate(zip(names, palette(len(names)))):
        x = width - LINE // 2 - text_size(name, LINE)[1] if right else LINE // 2
        draw_text(strip, name, (x, n * cell + (cell - LINE) / 2), LINE, colour)
    return strip
