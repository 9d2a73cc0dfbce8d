"""A convolution written out as a matrix: to see what its transpose does. Numpy; for maps of a few cells."""

import numpy as np


def convolution_matrix(
    kernel: np.ndarray, size: tuple[int, int], stride: int = 1, padding: int = 0, dilation: int = 1
) -> np.ndarray:
    """The matrix (H' W' O, H W I) that takes a map (H, W, I), laid out in a line, to its convolution (H', W', O).

    kernel: (kh, kw, I, O), not flipped; size: (H, W). Its transpose is the transposed convolution with the same kernel,
    whose channels then go from O to I: at stride 1 that is once more a convolution, with the kernel turned around; at
    stride 2 no convolution does it, since rows of the matrix are then not shifted copies of one another.
    """
    kernel = np.asarray(kernel)
    k, (height, width) = kernel.shape[:2], size
    rows, columns = ((n + 2 * padding - dilation * (m - 1) - 1) // stride + 1 for n, m in zip(size, k))
    matrix = np.zeros((rows, columns, kernel.shape[3], height, width, kernel.shape[2]), kernel.dtype)
    for i, j, y, x in np.ndindex(rows, columns, *k):
        row, column = i * stride + y * dilation - padding, j * stride + x * dilation - padding
        if 0 <= row < height and 0 <= column < width:
            matrix[i, j, :, row, column] = kernel[y, x].T
    return matrix.reshape(rows * columns * kernel.shape[3], -1)


def overlap_counts(
    size: tuple[int, int], kernel: int, stride: int, padding: int = 0, output_padding: int = 0
) -> np.ndarray:
    """How many cells of a map of that size a transposed convolution adds into each of its outputs, (H', W') int.

    Where the kernel is no multiple of the stride the numbers alternate, and with them the outputs of a constant map: the
    checkerboard of Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016.
    """
    lines = []
    for cells in size:
        line = np.zeros((cells - 1) * stride + kernel + output_padding, int)
        for cell in range(cells):
            line[cell * stride : cell * stride + kernel] += 1
        lines.append(line[padding : (cells - 1) * stride - padding + kernel + output_padding])
    return np.outer(*lines)
