import functools
import math

import jax
import numpy as np
import pytest

from jaxvision.ops import pyramid_pool as op

map_windows = functools.partial(jax.jit, static_argnums=(1, 2, 3))(op.map_windows)
pyramid_pool = functools.partial(jax.jit, static_argnums=2)(op.pyramid_pool)


def slow_window(box, stride, start, size):
    """The cells whose centres lie strictly inside the box; the nearest to its middle where there is none."""
    found = []
    for low, high, extent in ((box[0], box[2], size[1]), (box[1], box[3], size[0])):
        cells = [i for i in range(-50, 100) if low < stride * i + start < high]
        if not cells:
            cells = [math.floor(((low + high) / 2 - start) / stride + 0.5)]
        found.append([min(max(cell, 0), extent - 1) for cell in (cells[0], cells[-1])])
    (x1, x2), (y1, y2) = found
    return [x1, y1, x2, y2]


@pytest.mark.parametrize(("stride", "start"), [(16, 0), (16, 15.5), (8, 4)])
def test_corners_against_a_slow_loop(stride, start):
    rng = np.random.default_rng(0)
    corners = rng.integers(-40, 300, (60, 2)) / 2
    boxes = np.concatenate([corners, corners + rng.integers(1, 200, (60, 2)) / 2], 1).astype(np.float32)
    boxes[:3] = [[16, 16, 64, 64], [32, 0, 33, 100], [0, 0, 160, 144]]  # on centres, without any, all
    windows = map_windows(boxes, stride, start, (9, 10))
    np.testing.assert_array_equal(windows, [slow_window(box, stride, start, (9, 10)) for box in boxes])


def test_the_papers_rule():
    """Left and top floor(x / 16) + 1, right and bottom ceil(x / 16) - 1."""
    [window] = map_windows(np.array([[35, 48, 101, 160]], np.float32), 16, 0, (40, 40))
    assert window.tolist() == [35 // 16 + 1, 48 // 16 + 1, math.ceil(101 / 16) - 1, 160 // 16 - 1]


def slow_pool(features, window, levels):
    x1, y1, x2, y2 = map(int, window)
    part = features[y1 : y2 + 1, x1 : x2 + 1]
    height, width = part.shape[:2]
    bins = []
    for n in levels:
        for i in range(n):
            for j in range(n):
                rows = slice(i * height // n, -(-(i + 1) * height // n))
                columns = slice(j * width // n, -(-(j + 1) * width // n))
                bins.append(part[rows, columns].max((0, 1)))
    return bins


@pytest.mark.parametrize(("levels", "bins"), [((1, 2, 3, 6), 50), ((4, 2, 1), 21), ((5,), 25)])
def test_bins_against_a_slow_loop(levels, bins):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(14, 11, 3)).astype(np.float32)
    first = rng.integers(0, (11, 14), (40, 2))
    windows = np.concatenate([first, rng.integers(first, (11, 14))], 1).astype(np.float32)
    windows[0] = [0, 0, 10, 13]
    pooled = pyramid_pool(features, windows, levels)
    assert pooled.shape == (40, bins, 3)
    np.testing.assert_array_equal(pooled, [slow_pool(features, window, levels) for window in windows])


def test_the_gradient_of_a_bin_goes_to_its_greatest_cell():
    features = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    window = np.array([[0, 0, 3, 3]], np.float32)
    gradient = jax.jit(jax.grad(lambda f: op.pyramid_pool(f, window, (1, 2)).sum()))(features)[..., 0]
    expected = np.zeros((4, 4))
    expected[1::2, 1::2] = 1
    expected[3, 3] += 1
    np.testing.assert_array_equal(gradient, expected)
