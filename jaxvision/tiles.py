"""Overlapping windows of one size over an image of any size."""

import dataclasses
from collections.abc import Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Tiles:
    """How a segmenter sees an image piece by piece: its probabilities are averaged where windows overlap.

    size: (height, width) of a window, the network's canvas: one compilation whatever the sizes of the images.
    overlap: the share of a window's side that the next one sees too, from 0 to below 1, to whole pixels.

    The last window of a row or column moves inward so that it ends with the image. An image that is smaller than a
    window is padded, as on any canvas. Raises ValueError for sizes and overlaps that cannot be meant.
    """

    size: tuple[int, int]
    overlap: float = 0.5

    def __post_init__(self):
        if np.shape(self.size) != (2,) or any(side != int(side) or side < 1 for side in self.size):
            raise ValueError(f"The size of tiles is (height, width) in whole pixels, at least 1, got {self.size!r}.")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"The overlap of tiles is a share of their side, from 0 to below 1, got {self.overlap!r}.")
        object.__setattr__(self, "size", tuple(map(int, self.size)))

    def windows(self, size: tuple[int, int]) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """(rows, columns, weight) of each window on an image of that (height, width).

        weight (h,w,1) float32: 1 / the number of windows that see the pixel, so that weighted sums are means.
        """
        rows, columns = (self._along(*sides) for sides in zip(size, self.size))
        for row, down in rows:
            for column, across in columns:
                yield row, column, (down[:, None] * across)[..., None]

    def _along(self, side: int, tile: int) -> list[tuple[slice, np.ndarray]]:
        last = max(side - tile, 0)
        places = [slice(i, i + tile) for i in (*range(0, last, max(1, round(tile * (1 - self.overlap)))), last)]
        seen = np.zeros(side, np.float32)
        for place in places:
            seen[place] += 1
        return [(place, 1 / seen[place]) for place in places]
