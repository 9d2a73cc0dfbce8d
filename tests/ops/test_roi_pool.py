import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN, nhwc

from jaxvision.ops.roi_pool import roi_pool

FEATURES = nhwc("features")


def slow(feature, roi, size, scale):
    """One cell after the other, in float32 as torchvision computes them."""
    x1, y1, x2, y2 = (
        int(np.copysign(np.floor(abs(v) + np.float32(0.5)), v)) for v in np.float32(roi) * np.float32(scale)
    )
    bins = [
        np.float32(max(high - low + 1, 1)) / np.float32(n) for low, high, n in ((y1, y2, size[0]), (x1, x2, size[1]))
    ]
    result = np.zeros((*size, feature.shape[2]), np.float32)
    for i in range(size[0]):
        for j in range(size[1]):
            spans = [
                np.clip([np.floor(k * b) + first, np.ceil((k + 1) * b) + first], 0, extent).astype(int)
                for k, b, first, extent in zip((i, j), bins, (y1, x1), feature.shape)
            ]
            part = feature[slice(*spans[0]), slice(*spans[1])]
            if part.size:
                result[i, j] = part.max((0, 1))
    return result


def test_is_torchvisions():
    rois = GOLDEN["rois"]
    found = jax.jit(jax.vmap(lambda features: roi_pool(features, rois[:, 1:], 7, 0.25)))(FEATURES)
    own = np.asarray(found)[rois[:, 0].astype(int), np.arange(len(rois))]
    np.testing.assert_array_equal(own, nhwc("roi_pool"))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 7)])
@pytest.mark.parametrize("scale", [1.0, 0.0625])
def test_slow_cells_agree(size, scale):
    rng = np.random.default_rng(0)
    feature = rng.normal(size=(13, 18, 3)).astype(np.float32)
    rois = rng.uniform(-6, 26, (40, 4)) / scale  # some beyond the map, some turned around
    rois[20:, 2:] = rois[20:, :2] + abs(rois[20:, 2:])
    rois[-4:] = np.round(rois[-4:] * scale) / scale + 0.5 / scale  # halves
    wanted = [slow(feature, roi, size, scale) for roi in rois]
    np.testing.assert_array_equal(roi_pool(feature, rois.astype(np.float32), size, scale), wanted)


def test_gradient_goes_to_the_greatest():
    feature = jnp.array(np.random.default_rng(1).permutation(48).reshape(6, 8, 1), jnp.float32)
    gradient = jax.jit(jax.grad(lambda f: roi_pool(f, jnp.array([[0.0, 0, 7, 5]]), 2, 1.0).sum()))(feature)
    quarters = np.asarray(feature).reshape(2, 3, 2, 4).transpose(0, 2, 1, 3).reshape(4, 12)
    assert sorted(np.asarray(feature)[np.asarray(gradient) == 1]) == sorted(quarters.max(1))
    assert gradient.sum() == 4


def slow_gradient(feature, roi, size, scale, weights):
    """Each cell's weight goes to the first of its greatest values, read row by row."""
    result = np.zeros(feature.shape)
    numbers = np.arange(feature[..., 0].size).reshape(feature.shape[:2])
    for channel in range(feature.shape[2]):
        values = feature[..., channel]
        first = {v: numbers[values == v].tolist() for v in np.unique(values)}
        inside = [
            slow((numbers == n).astype(np.float32)[..., None], roi, size, scale)[..., 0] > 0 for n in numbers.flat
        ]
        own = slow(feature[..., [channel]], roi, size, scale)[..., 0]
        for cell in np.ndindex(*size):
            winners = [n for n in first.get(own[cell], []) if inside[n][cell]]
            if winners:
                result[..., channel].flat[winners[0]] += weights[(*cell, channel)]
    return result


@pytest.mark.parametrize("ties", [False, True])
def test_gradient_has_one_winner_a_cell_and_adds_up_over_rois(ties):
    rng = np.random.default_rng(2)
    feature = rng.normal(size=(6, 7, 2)).astype(np.float32)
    if ties:
        feature = np.maximum(np.round(feature), 0)  # as behind a ReLU
    rois = np.array([[0, 0, 6, 5], [1.5, 2.5, 4, 9], [-4, -3, 3, 2], [3, 3, 3, 3], [20, 20, 30, 30]], np.float32)
    weights = rng.normal(size=(5, 3, 2, 2)).astype(np.float32)
    pull = jax.jit(jax.grad(lambda f, r: (roi_pool(f, r, (3, 2), 1.0) * weights).sum(), (0, 1)))
    gradient, of_rois = pull(feature, rois)
    wanted = sum(slow_gradient(feature, roi, (3, 2), 1.0, w) for roi, w in zip(rois, weights))
    np.testing.assert_allclose(gradient, wanted, atol=1e-6)
    assert (of_rois == 0).all()


def test_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(3)
    feature = rng.permutation(60).reshape(5, 6, 2).astype(np.float32)  # a step below 1/2 changes no winner
    rois, weights = np.array([[0, 0, 5, 4], [2, 1, 4, 4]], np.float32), rng.normal(size=(2, 2, 2, 2))
    gradient = np.array(jax.jit(jax.grad(lambda f: (roi_pool(f, rois, 2, 1.0) * weights).sum()))(feature))

    def value(f):
        return sum((slow(f, roi, (2, 2), 1.0) * w).sum() for roi, w in zip(rois, weights))

    for place in np.ndindex(*feature.shape):
        step = np.zeros_like(feature)
        step[place] = 0.25
        assert gradient[place] == pytest.approx((value(feature + step) - value(feature - step)) / 0.5, abs=1e-5)
