import jax
import numpy as np
import pytest

from jaxvision.ops.roi_warp import roi_warp


def bilinear(feature, y, x):
    """The value at (y, x), the last rows holding for half a cell more; 0 beyond."""
    height, width, _ = feature.shape
    if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
        return np.zeros(feature.shape[2])
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = int(y), int(x)
    down, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    upper = (1 - u) * feature[top, left] + u * feature[top, right]
    return (1 - v) * upper + v * ((1 - u) * feature[down, left] + u * feature[down, right])


def rounded(roi, scale):
    return [float(np.copysign(np.floor(abs(v) + 0.5), v)) for v in np.float32(roi) * np.float32(scale)]


def slow(feature, corners, size, points=2):
    """One point after the other, on whole or any corners."""
    x1, y1, x2, y2 = corners
    height, width = size[0] * points, size[1] * points
    grid = np.zeros((height, width, feature.shape[2]))
    for i in range(height):
        for j in range(width):
            grid[i, j] = bilinear(feature, y1 + i * max(y2 - y1, 0) / height, x1 + j * max(x2 - x1, 0) / width)
    result = np.zeros((*size, feature.shape[2]))
    for i in range(size[0]):
        for j in range(size[1]):
            part = grid[i * points : (i + 1) * points, j * points : (j + 1) * points]
            result[i, j] = part.max((0, 1))
    return result


@pytest.mark.parametrize(("size", "points"), [((1, 1), 2), ((3, 2), 1), ((7, 7), 2)])
@pytest.mark.parametrize("scale", [1.0, 0.0625])
def test_slow_points_agree(size, points, scale):
    rng = np.random.default_rng(0)
    feature = rng.normal(size=(13, 18, 3)).astype(np.float32)
    rois = (rng.uniform(-6, 26, (24, 4)) / scale).astype(np.float32)  # some beyond the map, some turned around
    rois[12:, 2:] = rois[12:, :2] + abs(rois[12:, 2:])
    rois[-4:] = np.round(rois[-4:] * scale) / scale + 0.5 / scale  # halves
    found = jax.jit(lambda f, r: roi_warp(f, r, size, scale, points))(feature, rois)
    for got, roi in zip(found, rois):
        np.testing.assert_allclose(got, slow(feature, rounded(roi, scale), size, points), atol=1e-5)


def test_gradient_reaches_the_coordinates_as_if_nothing_were_rounded():
    """Of a RoI whose points all lie between cells or beyond the map, so that there is one slope."""
    rng = np.random.default_rng(1)
    feature = rng.normal(size=(9, 11, 2)).astype(np.float32)
    roi, scale = np.array([-8.3, -7.6, 20.9, 19.4], np.float32), 0.25
    weights = rng.normal(size=(3, 3, 2))
    corners = np.array(rounded(roi, scale))
    assert corners.tolist() == [-2, -2, 5, 5]
    gradient = jax.jit(jax.grad(lambda r: (roi_warp(feature, r, 3, scale)[0] * weights).sum()))(roi[None])[0]
    for axis in range(4):
        step = np.eye(4)[axis] * 1e-3
        sides = [(slow(feature, corners + s * step, (3, 3)) * weights).sum() for s in (1, -1)]
        slope = scale * (sides[0] - sides[1]) / 2e-3
        assert abs(slope) > 1e-2 and gradient[axis] == pytest.approx(slope, rel=1e-3)
