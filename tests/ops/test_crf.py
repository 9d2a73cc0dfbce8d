import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.data.sources import open_source
from jaxvision.metrics.trimap import border_distance
from jaxvision.ops.crf import PRESETS, Settings, exact_filter, gaussian_blur, mean_field, refine

SMALL = Settings(4.0, 5.0, 30.0, 2.0, 1.5, iterations=4)


def example(height=8, width=10, classes=4, seed=0):
    """Logits, and a picture of two halves with noise."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(height, width, classes)).astype(np.float32)
    image = rng.normal(100, 12, (height, width, 3))
    image[:, width // 2 :] += 60
    return logits, image.clip(0, 255).astype(np.uint8)


def matrix(weight, classes):
    weight = np.asarray(weight, np.float64)
    return weight if weight.ndim == 2 else np.diag(np.broadcast_to(weight, classes))


def slow_mean_field(logits, image, settings, valid=None):
    """From the formula, pair by pair."""
    height, width, classes = logits.shape
    valid = np.ones((height, width), bool) if valid is None else valid
    pixels = [(y, x) for y in range(height) for x in range(width) if valid[y, x]]
    kernels = np.zeros((2, len(pixels), len(pixels)))
    for i, (y, x) in enumerate(pixels):
        for j, (v, u) in enumerate(pixels):
            apart = (y - v) ** 2 + (x - u) ** 2
            colour = sum((float(a) - float(b)) ** 2 for a, b in zip(image[y, x], image[v, u]))
            kernels[0, i, j] = np.exp(
                -apart / (2 * settings.bilateral_xy**2) - colour / (2 * settings.bilateral_rgb**2)
            )
            kernels[1, i, j] = np.exp(-apart / (2 * settings.gaussian_xy**2))
    for kernel in kernels:
        if settings.normalization == "symmetric":
            kernel /= np.sqrt(np.outer(kernel.sum(1), kernel.sum(1)))
        if not settings.self_term:
            np.fill_diagonal(kernel, 0)
    weights = [matrix(w, classes) for w in (settings.bilateral_weight, settings.gaussian_weight)]
    mu = 1 - np.eye(classes) if settings.compatibility is None else np.asarray(settings.compatibility, np.float64)
    unary = np.array([logits[p] for p in pixels], np.float64)
    refined = unary
    for _ in range(settings.iterations):
        q = np.exp(refined - refined.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
        refined = unary.copy()
        for i in range(len(pixels)):
            for kernel, weight in zip(kernels, weights):
                refined[i] -= mu @ weight @ (kernel[i] @ q)
    out = logits.astype(np.float64)
    for p, row in zip(pixels, refined):
        out[p] = row
    return out


def run(settings, method="exact", **options):
    return jax.jit(lambda logits, image, valid=None: mean_field(logits, image, settings, valid, method, **options))


VARIANTS = {
    "potts": SMALL,
    "self": dataclasses.replace(SMALL, self_term=True),
    "none": dataclasses.replace(SMALL, normalization="none", bilateral_weight=0.3, gaussian_weight=0.2),
    "classes": dataclasses.replace(
        SMALL, bilateral_weight=np.arange(4.0), compatibility=np.random.default_rng(3).normal(size=(4, 4))
    ),
    "full": dataclasses.replace(SMALL, gaussian_weight=np.random.default_rng(4).normal(size=(4, 4))),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_exact_is_the_formula(variant):
    logits, image = example()
    wanted = slow_mean_field(logits, image, VARIANTS[variant])
    np.testing.assert_allclose(run(VARIANTS[variant])(logits, image), wanted, atol=1e-5 * max(1, abs(wanted).max()))


@pytest.mark.parametrize("block_bytes", [1, 7 * 4 * 80, 2**20])
def test_pixels_that_take_no_part(block_bytes):
    logits, image = example()
    valid = np.zeros((8, 10), bool)
    valid[:6, :7] = True
    found = run(SMALL, block_bytes=block_bytes)(logits, image, valid)
    np.testing.assert_allclose(found, slow_mean_field(logits, image, SMALL, valid), atol=1e-5)
    np.testing.assert_array_equal(found[~valid], logits[~valid])


def test_an_image_alone_is_that_image_on_a_larger_canvas():
    logits, image = example()
    valid = np.pad(np.ones((8, 10), bool), ((0, 4), (0, 2)))
    canvas = [np.pad(a, ((0, 4), (0, 2), (0, 0)), constant_values=v) for a, v in ((logits, np.nan), (image, 7))]
    for method in ("exact", "fast"):
        found = run(SMALL, method)(*canvas, valid)
        np.testing.assert_allclose(found[:8, :10], run(SMALL, method)(logits, image), atol=2e-5)
        np.testing.assert_array_equal(found[~valid], canvas[0][~valid])


def test_a_batch_by_map_is_each_alone():
    logits, images = (np.stack(a) for a in zip(*(example(seed=seed) for seed in range(3))))
    one = run(SMALL, "fast")
    both = jax.jit(lambda a, b: jax.lax.map(lambda ab: mean_field(*ab, SMALL), (a, b)))(logits, images)
    for i in range(3):
        np.testing.assert_allclose(both[i], one(logits[i], images[i]), atol=1e-5)


@pytest.mark.parametrize("method", ["exact", "fast"])
def test_gradients_are_the_differences(method):
    logits, image = example(5, 6, 3)
    rng = np.random.default_rng(1)
    cotangent = rng.normal(size=logits.shape)
    arguments = {
        "logits": logits,
        "bilateral_weight": np.float32([1, 2, 3]),
        "gaussian_weight": np.float32(1.5),
        "compatibility": (1 - np.eye(3) + 0.1 * rng.normal(size=(3, 3))).astype(np.float32),
    }

    def loss(a):
        settings = dataclasses.replace(SMALL, iterations=2, **{k: v for k, v in a.items() if k != "logits"})
        return (jax.nn.softmax(mean_field(a["logits"], image, settings, method=method)) * cotangent).sum()

    loss, gradients = jax.jit(loss), jax.jit(jax.grad(loss))(arguments)
    for name, gradient in gradients.items():
        for seed in range(2):
            way = np.random.default_rng(seed).normal(size=np.shape(gradient)).astype(np.float32)
            ahead, behind = (loss(arguments | {name: arguments[name] + s * 0.01 * way}) for s in (1, -1))
            np.testing.assert_allclose((gradient * way).sum(), (ahead - behind) / 0.02, rtol=2e-2, atol=2e-3)


def test_the_gradient_does_not_depend_on_blocks():
    logits, image = example()

    def loss(logits, block_bytes):
        return jnp.square(jax.nn.softmax(mean_field(logits, image, SMALL, None, "exact", block_bytes))).sum()

    whole, blocks = (jax.jit(jax.grad(lambda x, b=b: loss(x, b)))(logits) for b in (2**20, 9 * 4 * 80))
    np.testing.assert_allclose(blocks, whole, atol=1e-6)


def test_a_block_is_no_larger_than_it_may_be():
    """And the gradient does not keep the blocks."""
    x, features = np.ones((4096, 2), np.float32), np.ones((4096, 5), np.float32)
    both = jax.jit(jax.value_and_grad(lambda x: jnp.square(exact_filter(features, x, 2**20)).sum()))
    assert both.lower(x).compile().memory_analysis().temp_size_in_bytes < 8 * 2**20  # all pairs: 64 MiB


@pytest.mark.parametrize("sigma", [0.7, 3.0, 4.9, 20.0])
def test_the_blur_is_the_gaussians_sum(sigma):
    x = np.random.default_rng(0).normal(size=(31, 45, 2)).astype(np.float32)
    rows, columns = (np.exp(-0.5 * np.square(np.subtract.outer(np.arange(n), np.arange(n)) / sigma)) for n in (31, 45))
    wanted = np.einsum("yv,xu,vuc->yxc", rows, columns, x)
    np.testing.assert_allclose(gaussian_blur(jnp.array(x), sigma), wanted, atol=1e-4)


def noisy(semantic, classes=7, seed=0):
    """Probabilities that a weak network could give: a blurred truth and coarse noise."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(*semantic.shape, classes)), (0, 0), 2.5)
    logits = 2 * cv2.GaussianBlur(np.eye(classes)[semantic], (0, 0), 3) + 1.5 * noise / noise.std()
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


@pytest.mark.parametrize("preset", ["pydensecrf", "deeplab_vgg"])
def test_fast_agrees_with_exact_and_both_help(preset, scenes_dir):
    scene = open_source("scenes/shapes", "validation", scenes_dir)[0]
    truth, image = (
        scene[name][40:104, 20:84] for name in ("semantic", "image")
    )  # benchmarks/crf.py takes whole scenes
    probabilities = noisy(truth)
    fast, exact = (refine(probabilities, image, PRESETS[preset], m).argmax(-1) for m in ("fast", "exact"))
    before, after = (probabilities.argmax(-1) == truth).mean(), (exact == truth).mean()
    assert after > before + 0.3
    assert (fast == exact).mean() >= 0.99
    assert (fast == exact)[border_distance(truth) < 3].mean() >= 0.97


def test_refined_probabilities():
    logits, image = example()
    probabilities = np.array(jax.nn.softmax(logits))
    found = refine(probabilities, image, SMALL, "exact")
    np.testing.assert_allclose(found, jax.nn.softmax(slow_mean_field(np.log(probabilities), image, SMALL)), atol=1e-5)
    sure = np.eye(4)[logits.argmax(-1)]
    assert np.isfinite(refine(sure, image, SMALL)).all()  # log 0
    none = dataclasses.replace(SMALL, bilateral_weight=0.0, gaussian_weight=0.0)
    np.testing.assert_allclose(refine(probabilities, image, none), probabilities, atol=1e-6)


def test_what_is_wrong_is_named():
    logits, image = example()
    with pytest.raises(ValueError, match=r"At 80 pixels there are no probabilities.*row 0, column 0.*softmax"):
        refine(logits + 10, image, SMALL)
    bad = np.full((8, 10, 4), 0.25)
    bad[2, 3] = np.nan
    with pytest.raises(ValueError, match=r"At 1 pixels.*row 2, column 3"):
        refine(bad, image, SMALL)
    with pytest.raises(ValueError, match=r"uint8 image.*\(8, 10, 3\) float32"):
        refine(np.full((8, 10, 4), 0.25), image.astype(np.float32), SMALL)
    with pytest.raises(ValueError, match=r"image \(8, 10, 3\), not \(8, 9, 3\)"):
        mean_field(logits, image[:, :-1], SMALL)
    with pytest.raises(ValueError, match="'slow'; 'fast' and 'exact'"):
        mean_field(logits, image, SMALL, method="slow")
    for wrong, message in (
        (
            {"bilateral_weight": np.ones(3)},
            r"bilateral_weight is of shape \(3,\); for 4 classes: \(\), \(4,\), \(4, 4\)",
        ),
        ({"compatibility": np.ones(4)}, r"compatibility is of shape \(4,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            mean_field(logits, image, dataclasses.replace(SMALL, **wrong))
    for wrong, message in (
        ({"bilateral_rgb": 0.0}, "bilateral_rgb is 0"),
        ({"iterations": -1}, "iterations is -1"),
        ({"normalization": "before"}, '"symmetric" and "none"'),
    ):
        with pytest.raises(ValueError, match=message):
            Settings(**wrong)
