import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxvision.explain.grad_cam import grad_cam
from jaxvision.explain.saliency import deconvnet, guided_grad_cam, saliency
from jaxvision.ops.pool import max_pool


class Small(nn.Module):
    """A convolution, its ReLU, a pool, and a dense layer with another ReLU."""

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(4, (3, 3), name="conv")(images))
        x = self.perturb("map", max_pool(x, 2))
        hidden = nn.relu(nn.Dense(6, name="hidden")(x.reshape(len(x), -1)))
        return {"map": x, "logits": nn.Dense(3, name="head")(hidden)}


@pytest.fixture(scope="module")
def small():
    images = jax.random.uniform(jax.random.key(0), (2, 8, 6, 3))
    variables = Small().init(jax.random.key(1), images)
    return variables, images, Small().apply(variables, images)


def test_the_gradient_is_that_of_the_target(small):
    variables, images, _ = small
    signals = saliency(Small(), variables, images, range(3))
    assert signals.shape == (2, 3, 8, 6, 3)
    for k in range(3):
        gradient = jax.grad(lambda x, k=k: Small().apply(variables, x)["logits"][:, k].sum())(images)
        np.testing.assert_allclose(signals[:, k], gradient, atol=1e-6)
    with pytest.raises(ValueError, match="'relu' is not one of gradient, deconvnet, guided"):
        saliency(Small(), variables, images, [0], "relu")


def test_guided_grad_cam_is_the_product(small):
    variables, images, _ = small
    found = guided_grad_cam(Small(), variables, images, "map", [0, 2])
    guided = saliency(Small(), variables, images, [0, 2], "guided")
    maps = np.asarray(grad_cam(Small(), variables, images, "map", [0, 2]))
    for b, t in np.ndindex(2, 2):
        upsampled = cv2.resize(maps[b, t], (6, 8), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(found[b, t], guided[b, t] * upsampled[..., None], atol=1e-5)
    assert np.abs(found).max() > 1e-3


def projected(variables, images, channel, row, column):
    """A kept activation taken back by hand: to the switch of its pool, and by the filter that it was made with."""
    kernel, bias = (np.asarray(variables["params"]["conv"][name], np.float64) for name in ("kernel", "bias"))
    padded = np.pad(np.asarray(images, np.float64), ((1, 1), (1, 1), (0, 0)))
    best, switch = -np.inf, None
    for y in (2 * row, 2 * row + 1):
        for x in (2 * column, 2 * column + 1):
            value = (padded[y : y + 3, x : x + 3] * kernel[..., channel]).sum() + bias[channel]
            if value > best:
                best, switch = value, (y, x)
    signal = np.zeros_like(padded)
    y, x = switch
    signal[y : y + 3, x : x + 3] = max(best, 0) * kernel[..., channel]
    return signal[1:-1, 1:-1], best


def test_a_deconvnet_goes_back_by_switches_and_filters(small):
    variables, images, outputs = small
    found, chosen = deconvnet(Small(), variables, images, "map", range(4)), 0
    for b, k in np.ndindex(2, 4):
        values = np.asarray(outputs["map"])[b, ..., k]
        row, column = np.unravel_index(values.argmax(), values.shape)
        signal, activation = projected(variables, images[b], k, row, column)
        np.testing.assert_allclose(found[b, k], signal, atol=1e-5)
        chosen += activation > 0.1
    assert chosen > 3
    there = deconvnet(Small(), variables, images, "map", [1, 3], place=(2, 1))
    for b, (t, k) in ((0, (0, 1)), (1, (1, 3))):
        np.testing.assert_allclose(there[b, t], projected(variables, images[b], k, 2, 1)[0], atol=1e-5)


def test_a_deconvnet_may_begin_at_a_submodule(small):
    variables, images, _ = small
    by_path = deconvnet(Small(), variables, images, "conv", [0])  # before the ReLU and the pool: the filter alone
    first = nn.Conv(4, (3, 3)).apply({"params": variables["params"]["conv"]}, images)[..., 0]
    for b in range(2):
        y, x = np.unravel_index(np.asarray(first[b]).argmax(), (8, 6))
        signal = np.zeros((10, 8, 3))
        signal[y : y + 3, x : x + 3] = first[b, y, x] * variables["params"]["conv"]["kernel"][..., 0]
        np.testing.assert_allclose(by_path[b, 0], signal[1:-1, 1:-1], atol=1e-5)


def test_what_cannot_be_meant(small):
    variables, images, _ = small
    for call, text in (
        (
            lambda: deconvnet(Small(), variables, images, "maps", [0]),
            r"no layer 'maps'; did you mean \"map\"\? Known: map",
        ),
        (lambda: deconvnet(Small(), variables, images, "logits", [0]), r"logits of Small has shape \(2, 3\)"),
        (lambda: deconvnet(Small(), variables, images, "map", [4]), "Channel 4 does not exist: there are 4, 0 to 3"),
        (lambda: deconvnet(Small(), variables, images, "map", [0], (4, 0)), "Row 4 does not exist: there are 4"),
        (lambda: deconvnet(Small(), variables, images, "map", []), "nothing to explain"),
        (
            lambda: saliency(Small(), variables, (images * 255).astype(jnp.uint8), [0]),
            "images of floats: those of uint8",
        ),
        (lambda: guided_grad_cam(Small(), variables, images, "map", [3]), "Class 3 does not exist"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
