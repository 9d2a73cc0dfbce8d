"""Pictures of what wholes are made of: a bar for each, cut into its parts."""

from collections.abc import Sequence

import cv2
import numpy as np

from jaxvision.visualize.layout import draw_text, text_size

WIDTH, BAR, LINE = 800, 26, 20  # pixels: of a whole bar, its height, a line of text
WHITE, EMPTY = (255,) * 3, (225,) * 3


def draw_shares(
    table, row_names: Sequence[str], part_names: Sequence[str], colours: Sequence[tuple], notes: Sequence[str]
) -> np.ndarray:
    """A bar for each row of table (R, P), its parts in percent of their sum, with names, notes and a legend above;
    (H, W, 3) uint8 RGB.

    A row that holds nothing is grey. colours: of the parts. notes: stand behind the bars.
    Raises ValueError where numbers differ, and for parts below 0 or not numbers.
    """
    table = np.asarray(table, np.float64)
    if (
        table.shape != (len(row_names), len(part_names))
        or len(colours) != len(part_names)
        or len(notes) != len(row_names)
    ):
        raise ValueError(
            f"a table {table.shape} with {len(row_names)} rows, {len(notes)} notes, {len(part_names)} parts and "
            f"{len(colours)} colours"
        )
    if not (table >= 0).all():
        raise ValueError(f"{(~(table >= 0)).sum()} parts are below 0 or not a number")
    left = max(text_size(str(name), LINE)[1] for name in row_names) + LINE
    right = max(text_size(str(note), LINE)[1] for note in notes) + LINE
    top, step = 3 * LINE, BAR + 8
    picture = np.full((top + len(table) * step + LINE // 2, left + WIDTH + right, 3), 255, np.uint8)
    x = left
    for name, colour in zip(part_names, colours):
        draw_text(picture, str(name), (x, LINE), LINE, colour)
        x += text_size(str(name), LINE)[1] + LINE // 2
    for n, (row, name, note) in enumerate(zip(table, row_names, notes)):
        y = top + n * step
        inset = (BAR - LINE) / 2
        draw_text(picture, str(name), (left - LINE // 2 - text_size(str(name), LINE)[1], y + inset), LINE, WHITE)
        draw_text(picture, str(note), (left + WIDTH + LINE // 2, y + inset), LINE, WHITE)
        picture[y : y + BAR, left : left + WIDTH] = EMPTY
        if not row.any():
            continue
        edges = left + np.rint(np.cumsum([0, *row / row.sum()]) * WIDTH).astype(int)
        for share, colour, start, end in zip(row / row.sum(), colours, edges[:-1], edges[1:]):
            if end > start:
                cv2.rectangle(
                    picture, (int(start), y), (int(end) - 1, y + BAR - 1), tuple(map(int, colour)), cv2.FILLED
                )
            text = f"{100 * share:.0f}"
            width = text_size(text, LINE)[1]
            if end - start >= width + 2:
                draw_text(picture, text, (start + (end - start - width) / 2, y + inset), LINE, colour)
    return picture
