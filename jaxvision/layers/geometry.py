"""Where a map's cells lie in the image, layer by layer: what FCN's crops are computed from."""

from typing import NamedTuple


class Geometry(NamedTuple):
    """Cell i of a map has its centre at pixel `stride` * i + `start` of the image (pixel i's centre being at i)."""

    stride: float = 1
    start: float = 0

    def conv(self, kernel: int, stride: int, padding: int) -> "Geometry":
        """After a convolution or pooling."""
        return Geometry(self.stride * stride, self.start + self.stride * ((kernel - 1) / 2 - padding))

    def conv_transpose(self, kernel: int, stride: int, padding: int) -> "Geometry":
        """After a transposed convolution."""
        step = self.stride / stride
        return Geometry(step, self.start - step * ((kernel - 1) / 2 - padding))

    def offset(self, other: "Geometry") -> int:
        """How many cells of this map come before the first cell of `other`.

        Raises ValueError where the two have different strides, or cells that do not fall on each other.
        """
        cells = (other.start - self.start) / self.stride
        if self.stride != other.stride or cells != int(cells):
            raise ValueError(f"The maps {self} and {other} do not align: change the padding of the layers before them.")
        return int(cells)
