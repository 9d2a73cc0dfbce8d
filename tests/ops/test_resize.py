import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN, nhwc

from jaxvision.ops.resize import bilinear_kernel, conv_transpose, resize

FEATURES = nhwc("features")


def test_bilinear_is_torchs():
    np.testing.assert_allclose(resize(FEATURES, (40, 51)), nhwc("bilinear.up"), atol=1e-5)
    np.testing.assert_allclose(resize(FEATURES, (9, 10)), nhwc("bilinear.down"), atol=1e-5)


def cubic(x, a=-0.75):
    x = abs(x)
    return ((a + 2) * x - (a + 3)) * x * x + 1 if x <= 1 else ((x - 5) * x + 8) * x * a - 4 * a if x < 2 else 0.0


def slow_line(line, out, method, align_corners):
    """One output sample at a time, by the definitions in torch's documentation."""
    extent, result = len(line), []
    for i in range(out):
        if method == "nearest":
            result.append(line[i * extent // out])
            continue
        position = i * (extent - 1) / max(out - 1, 1) if align_corners else (i + 0.5) * extent / out - 0.5
        if method == "bilinear":
            position = max(position, 0)
        taps = range(int(np.floor(position)) - 1, int(np.floor(position)) + 3)
        kernel = cubic if method == "bicubic" else lambda d: max(0.0, 1 - abs(d))
        result.append(sum(kernel(position - t) * line[min(max(t, 0), extent - 1)] for t in taps))
    return np.array(result)


@pytest.mark.parametrize(
    ("method", "align_corners"),
    [("nearest", False), ("bilinear", False), ("bilinear", True), ("bicubic", False), ("bicubic", True)],
)
def test_slow_lines_agree(method, align_corners):
    x = FEATURES[0, :7, :9, :1]
    for height, width in [(1, 5), (7, 23), (13, 9)]:
        rows = np.stack([slow_line(column, height, method, align_corners) for column in x[..., 0].T], 1)
        expected = np.stack([slow_line(row, width, method, align_corners) for row in rows])
        np.testing.assert_allclose(resize(x, (height, width), method, align_corners)[..., 0], expected, atol=1e-5)


@pytest.mark.parametrize(("method", "name"), [("bilinear", "linear"), ("bicubic", "cubic")])
def test_antialias_widens_the_kernel(method, name):
    for size in [(5, 8), (30, 40)]:
        expected = jax.image.resize(FEATURES[0], (*size, 5), name, antialias=True)
        np.testing.assert_allclose(resize(FEATURES[0], size, method, antialias=True), expected, atol=1e-5)


def test_dtypes_and_refusals():
    labels = np.array([[0, 255], [3, 7]], np.uint8)[..., None]
    out = resize(labels, 5, "nearest")
    assert out.dtype == np.uint8
    assert out[:, :, 0].tolist() == [[0, 0, 0, 255, 255]] * 3 + [[3, 3, 3, 7, 7]] * 2
    assert resize(FEATURES.astype(jnp.bfloat16), 5).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="area"):
        resize(FEATURES, 5, "area")
    with pytest.raises(ValueError, match="antialias"):
        resize(FEATURES, 5, "nearest", antialias=True)


def test_gradient_is_the_transpose():
    weights = np.random.default_rng(0).normal(size=(11, 6, 5)).astype(np.float32)
    gradient = jax.grad(lambda x: (resize(x, (11, 6)) * weights).sum())(FEATURES[0])
    value = (resize(FEATURES[0], (11, 6)) * weights).sum()
    assert float((gradient * FEATURES[0]).sum()) == pytest.approx(float(value), rel=1e-3)


def slow_conv_transpose(x, kernel, stride, padding, output_padding):
    """Every input scatters its product with the kernel."""
    (batch, height, width, _), (kh, kw, out, _) = x.shape, kernel.shape
    full = np.zeros(
        (batch, (height - 1) * stride + kh + output_padding, (width - 1) * stride + kw + output_padding, out)
    )
    for y, x_, i, j in itertools.product(range(height), range(width), range(kh), range(kw)):
        full[:, y * stride + i, x_ * stride + j] += x[:, y, x_] @ kernel[i, j].T
    return full[:, padding : full.shape[1] - padding, padding : full.shape[2] - padding]


def test_conv_transpose_is_torchs():
    for name, output_padding in (("deconv", 1), ("deconv4", 0)):
        kernel = GOLDEN[f"{name}.kernel"].transpose(2, 3, 1, 0)
        out = conv_transpose(FEATURES, kernel, 2, 1, output_padding)
        np.testing.assert_allclose(out, nhwc(f"{name}.stride2"), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "stride", "padding", "output_padding"),
    [((2, 2), 2, 0, 0), ((3, 2), 1, 1, 0), ((4, 5), 3, 1, 2), ((16, 16), 8, 4, 0), ((2, 2), 3, 0, 1)],
)
def test_conv_transpose_scatters(size, stride, padding, output_padding):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 4, 3, 3)), rng.normal(size=(*size, 2, 3))
    expected = slow_conv_transpose(x, kernel, stride, padding, output_padding)
    out = jax.jit(conv_transpose, static_argnums=(2, 3, 4))(
        x.astype(np.float32), kernel.astype(np.float32), stride, padding, output_padding
    )
    assert out.shape == expected.shape
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_bilinear_kernel_interpolates():
    np.testing.assert_allclose(bilinear_kernel(4)[1] * 4, [0.75, 2.25, 2.25, 0.75])
    x = FEATURES[:, :6, :6, :1]
    up = conv_transpose(x, bilinear_kernel(4)[..., None, None], 2, 1)
    np.testing.assert_allclose(up[:, 1:-1, 1:-1], resize(x, 12)[:, 1:-1, 1:-1], atol=1e-5)
