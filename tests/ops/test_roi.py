import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN, nhwc

from jaxvision.ops.roi import assign_levels, pyramid_roi_align, roi_align

FEATURES, ROIS, IMAGE = nhwc("features"), GOLDEN["rois"][:, 1:], GOLDEN["rois"][:, 0].astype(int)
SCALES = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
impls = pytest.mark.parametrize("impl", ["gather", "einsum"])


def on_both_images(impl, sampling_ratio=2, aligned=True):
    """roi_align of every RoI on both maps, then each RoI's own map."""
    align = jax.vmap(lambda f: roi_align(f, ROIS, 7, 0.25, sampling_ratio, aligned, impl))
    return lambda features: align(features)[IMAGE, np.arange(len(ROIS))]


@impls
@pytest.mark.parametrize(("aligned", "ratio"), itertools.product([0, 1], [-1, 1, 2]))
def test_is_torchvisions(impl, aligned, ratio):
    out = jax.jit(on_both_images(impl, ratio, bool(aligned)))(FEATURES)
    np.testing.assert_allclose(out, nhwc(f"roi_align.aligned{aligned}.ratio{ratio}"), atol=1e-5)


@impls
def test_gradient_is_torchvisions(impl):
    gradient = jax.jit(jax.grad(lambda f: (on_both_images(impl)(f) ** 2).sum()))(FEATURES)
    golden = nhwc("roi_align.grad")
    np.testing.assert_allclose(gradient, golden, atol=1e-5 * abs(golden).max())


@impls
def test_gradient_with_respect_to_rois_is_the_slope(impl):
    features, rois = jnp.asarray(FEATURES[0], jnp.float32), jnp.array([[9.0, 13, 41, 57], [20, 5, 77, 34]])
    weights = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    value = jax.jit(lambda r: (roi_align(features, r, (3, 4), 0.25, impl=impl) * weights).sum())
    step = jnp.zeros_like(rois).at[1, 2].set(0.05)
    slope = (value(rois + step) - value(rois - step)) / 0.1
    assert jax.jit(jax.grad(value))(rois)[1, 2] == pytest.approx(float(slope), rel=0.02)


@impls
def test_pyramid_is_torchvisions(impl):
    pyramid = [
        np.tile(FEATURES, (1, n, n, 1))[:, :h, :w] for n, h, w in [(8, 128, 160), (4, 64, 80), (2, 32, 40), (1, 16, 20)]
    ]

    @jax.jit
    @jax.vmap
    def pool(features, rois):
        return pyramid_roi_align(features, rois, assign_levels(rois, 2, 5), 7, SCALES, 2, False, impl)

    out = pool(pyramid, np.stack([GOLDEN["multi.boxes.0"], GOLDEN["multi.boxes.1"]]))
    # Samples stand as far as 160 cells from the origin: float32 places them to 1.5e-5 of a cell.
    np.testing.assert_allclose(out.reshape(80, 7, 7, 5), nhwc("multi.roi_align"), atol=5e-5)


def test_levels():
    sides = np.array([1, 111, 112, 223, 224, 448, 900, 0], np.float32)
    rois = np.stack([0 * sides, 0 * sides, sides, sides], 1)
    assert assign_levels(rois, 2, 5).tolist() == [0, 0, 1, 1, 2, 3, 3, 0]
    assert assign_levels(rois, 3, 6, canonical_level=5, canonical_size=448).tolist() == [0, 0, 0, 0, 1, 2, 3, 0]


def slow_roi_align(feature, roi, size, scale, samples, aligned):
    """One sample at a time; `samples` per axis."""
    shift = 0.5 if aligned else 0
    x1, y1, x2, y2 = (v * scale - shift for v in roi)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1), max(height, 1)
    out = np.zeros((*size, feature.shape[-1]))
    for i, j, a, b in itertools.product(*map(range, (*size, samples, samples))):
        y = y1 + (i + (a + 0.5) / samples) * height / size[0]
        x = x1 + (j + (b + 0.5) / samples) * width / size[1]
        if not (-1 <= y <= len(feature) and -1 <= x <= feature.shape[1]):
            continue
        y, x = min(max(y, 0), len(feature) - 1), min(max(x, 0), feature.shape[1] - 1)
        for row in {int(y), min(int(y) + 1, len(feature) - 1)}:
            for column in {int(x), min(int(x) + 1, feature.shape[1] - 1)}:
                weight = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
                out[i, j] += weight * feature[row, column] / samples**2
    return out


@impls
@pytest.mark.parametrize("aligned", [False, True])
def test_slow_loop_agrees_at_borders_and_on_degenerate_rois(impl, aligned):
    feature = FEATURES[0, :6, :8, :2]
    rois = np.array([[-9, -6, 9, 5], [20, 12, 40, 30], [6, 6, 6, 6], [9, 9, 4, 2], [60, 60, 80, 80], [0, 0, 32, 24]])
    out = jax.jit(lambda f, r: roi_align(f, r, (2, 3), 0.25, 3, aligned, impl))(feature, rois.astype(np.float32))
    for got, roi in zip(out, rois):
        np.testing.assert_allclose(got, slow_roi_align(feature, roi, (2, 3), 0.25, 3, aligned), atol=1e-5)


def test_adaptive_sampling_stops_at_its_bound():
    roi = np.array([[2, 3, 90, 60]], np.float32)
    bounded = jax.jit(lambda f: roi_align(f, roi, 3, 0.25, -1, max_sampling=2))(FEATURES[0])
    np.testing.assert_allclose(bounded, jax.jit(lambda f: roi_align(f, roi, 3, 0.25, 2))(FEATURES[0]), atol=1e-6)


def test_bfloat16_features_stay_so_and_an_unknown_impl_is_refused():
    for impl in ("gather", "einsum"):
        out = jax.eval_shape(
            lambda f, impl=impl: roi_align(f, ROIS, 2, 0.25, impl=impl), FEATURES[0].astype(jnp.bfloat16)
        )
        assert out.dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="dense"):
        roi_align(FEATURES[0], ROIS, 2, 0.25, impl="dense")
