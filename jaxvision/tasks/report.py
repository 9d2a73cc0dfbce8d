"""Tables of what each class, joint or limb scores, to be printed."""

from collections.abc import Mapping, Sequence

import numpy as np


def lines(head: str, names: Sequence[str], columns: Mapping[str, Sequence]) -> list[str]:
    """A line of `head` and the columns' names, and one for each of `names` with its values, all of one length: whole numbers
    with commas, others to four places."""
    columns = [[name, *map(_text, values)] for name, values in columns.items()]
    padded = [_padded([head, *names], "<"), *(_padded(column, ">") for column in columns)]
    return ["   ".join(row) for row in zip(*padded, strict=True)]


def _text(value) -> str:
    return f"{value:,}" if isinstance(value, int | np.integer) else f"{value:.4f}"


def _padded(column: Sequence[str], side: str) -> list[str]:
    width = max(map(len, column))
    return [f"{text:{side}{width}}" for text in column]
