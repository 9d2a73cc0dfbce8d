import functools

import jax
import numpy as np
import pytest

from jaxvision.ops import warp as op

warp = functools.partial(jax.jit, static_argnums=(2, 3))(op.warp)


def slow_warp(image, box, side, context):
    """Each pixel of the result from the place in the image that it shows, bilinearly, 0 beyond."""
    height, width, channels = image.shape
    inner = side - 2 * context
    result = np.zeros((side, side, channels))

    def pixel(y, x):
        return image[y, x] if 0 <= y < height and 0 <= x < width else np.zeros(channels)

    for i in range(side):
        for j in range(side):
            y = box[1] + (i + 0.5 - context) / inner * (box[3] - box[1]) - 0.5
            x = box[0] + (j + 0.5 - context) / inner * (box[2] - box[0]) - 0.5
            y0, x0 = int(np.floor(y)), int(np.floor(x))
            for dy, wy in ((0, y0 + 1 - y), (1, y - y0)):
                for dx, wx in ((0, x0 + 1 - x), (1, x - x0)):
                    result[i, j] += wy * wx * pixel(y0 + dy, x0 + dx)
    return result


@pytest.mark.parametrize("context", [0, 2])
def test_regions_against_a_slow_loop(context):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(13, 17, 2)).astype(np.float32)
    boxes = np.array([[2, 3, 12, 9], [0, 0, 17, 13], [-3, 8, 5.5, 13], [15, 11, 17, 13], [20, 20, 30, 30]], np.float32)
    pieces = np.array(warp(image, boxes, 11, context))
    assert pieces.shape == (5, 11, 11, 2)
    for piece, box in zip(pieces, boxes):
        np.testing.assert_allclose(piece, slow_warp(image, box, 11, context), atol=1e-4)
    assert not pieces[4].any() and pieces[:4].any((1, 2, 3)).all()


def test_context_is_counted_in_the_pixels_of_the_result():
    """A box of 28 pixels that fills 14 of the 20 has 2 * 3 pixels of its surroundings on each side."""
    image = np.zeros((60, 60, 1), np.float32)
    image[16:44, 16:44] = 1
    [piece] = np.array(warp(image, np.array([[16, 16, 44, 44]], np.float32), 20, 3))
    inner = np.zeros((20, 20, 1))
    inner[3:17, 3:17] = 1
    np.testing.assert_allclose(piece, inner, atol=1e-5)


def test_a_box_of_the_result_s_own_size_is_copied():
    image = np.random.default_rng(1).normal(size=(20, 20, 3)).astype(np.float32)
    [piece] = np.array(warp(image, np.array([[4, 6, 12, 14]], np.float32), 8))
    np.testing.assert_allclose(piece, image[6:14, 4:12], atol=1e-5)
