import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.ops.convolution_matrix import convolution_matrix, overlap_counts
from jaxvision.ops.resize import conv_transpose

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 2, 4)).astype(np.float32)


def convolve(x, kernel, stride, padding, dilation=1):
    numbers, pads = ("NHWC", "HWIO", "NHWC"), [(padding, padding)] * 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, rhs_dilation=(dilation, dilation), dimension_numbers=numbers
    )


@pytest.mark.parametrize(("stride", "padding", "dilation"), itertools.product([1, 2, 3], [0, 1], [1, 2]))
def test_the_matrix_is_the_convolution(stride, padding, dilation):
    x = RNG.normal(size=(1, 7, 6, 2)).astype(np.float32)
    matrix = convolution_matrix(KERNEL, (7, 6), stride, padding, dilation)
    found = convolve(x, KERNEL, stride, padding, dilation)
    np.testing.assert_allclose(matrix @ x.ravel(), found.ravel(), atol=1e-5)


@pytest.mark.parametrize(("stride", "padding", "extra"), [(1, 0, 0), (1, 1, 0), (2, 1, 1), (2, 0, 0), (3, 1, 0)])
def test_the_transposed_convolution_is_the_adjoint(stride, padding, extra):
    """<conv(u), v> = <u, convT(v)>, and convT is the transposed matrix."""
    v = RNG.normal(size=(1, 4, 3, 4)).astype(np.float32)
    back = conv_transpose(v, KERNEL, stride, padding, extra)
    u = RNG.normal(size=back.shape).astype(np.float32)
    forth = convolve(u, KERNEL, stride, padding)
    assert forth.shape == v.shape
    assert float((forth * v).sum()) == pytest.approx(float((u * back).sum()), rel=1e-4)
    matrix = convolution_matrix(KERNEL, back.shape[1:3], stride, padding)
    np.testing.assert_allclose(matrix.T @ v.ravel(), back.ravel(), atol=1e-5)


def test_at_stride_1_the_transpose_is_a_convolution_and_at_stride_2_none():
    v = RNG.normal(size=(1, 5, 5, 4)).astype(np.float32)
    turned = KERNEL[::-1, ::-1].transpose(0, 1, 3, 2)
    np.testing.assert_allclose(conv_transpose(v, KERNEL, 1, 1), convolve(v, turned, 1, 1), atol=1e-5)
    # A convolution answers a shifted input by a shifted output, a cell by a cell.
    nail = jnp.zeros((1, 5, 5, 4))
    here, there = (conv_transpose(nail.at[0, 2, x, 0].set(1), KERNEL, 2, 1)[0, 4, :, 0] for x in (2, 3))
    np.testing.assert_allclose(here[:-2], there[2:], atol=1e-6)
    assert abs(here[:-1] - there[1:]).max() > 0.1


@pytest.mark.parametrize(("kernel", "padding", "extra"), [(3, 1, 1), (4, 1, 0), (2, 0, 0)])
def test_overlaps_show_the_checkerboard(kernel, padding, extra):
    counts = overlap_counts((4, 5), kernel, 2, padding, extra)
    ones = conv_transpose(jnp.ones((1, 4, 5, 1)), jnp.ones((kernel, kernel, 1, 1)), 2, padding, extra)
    np.testing.assert_array_equal(counts, ones[0, :, :, 0])
    inside = {int(n) for n in counts[2:-2, 2:-2].ravel()}
    assert inside == {3: {1, 2, 4}, 4: {4}, 2: {1}}[kernel]
