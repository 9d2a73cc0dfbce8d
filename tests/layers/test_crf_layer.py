import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.layers.crf_rnn import CRFRNN
from jaxvision.ops.crf import Settings, mean_field

SETTINGS = Settings(3.0, 5.0, 30.0, 1.0, 1.5)
SIZES = np.array([[6, 7], [4, 5]])


def example(classes=3):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 6, 7, classes)).astype(np.float32)
    image = rng.normal(90, 10, (2, 6, 7, 3))
    image[:, :, 3:] += 80
    return logits, image.astype(np.uint8), SIZES


def init(layer, arguments):
    return jax.jit(layer.init)(jax.random.key(0), *arguments)["params"]


@pytest.mark.parametrize("weights", ["class", "full"])
def test_it_begins_as_the_mean_field_of_its_settings(weights):
    arguments = example()
    layer = CRFRNN(SETTINGS, weights, method="exact")
    params = init(layer, arguments)
    assert params["bilateral_weight"].shape == {"class": (3,), "full": (3, 3)}[weights]
    for train, iterations in ((True, 5), (False, 10)):
        found = jax.jit(lambda p, train=train: layer.apply({"params": p}, *arguments, train=train))(params)
        settings = dataclasses.replace(SETTINGS, iterations=iterations)
        for i, (height, width) in enumerate(SIZES):
            logits, image = (a[i, :height, :width] for a in arguments[:2])
            alone = jax.jit(lambda a, b, s=settings: mean_field(a, b, s, method="exact"))(logits, image)
            np.testing.assert_allclose(found[i, :height, :width], alone, atol=1e-5)
        np.testing.assert_array_equal(found[1, 4:], arguments[0][1, 4:])


@pytest.mark.parametrize("method", ["exact", "fast"])
def test_without_weights_logits_stay(method):
    arguments = example()
    layer = CRFRNN(dataclasses.replace(SETTINGS, bilateral_weight=0.0, gaussian_weight=0.0), method=method)
    found, _ = jax.jit(layer.init_with_output)(jax.random.key(0), *arguments)
    np.testing.assert_array_equal(found, arguments[0])


@pytest.mark.parametrize("method", ["exact", "fast"])
def test_it_learns_and_its_gradients_are_the_differences(method):
    logits, image, sizes = example()
    truth = np.arange(7) > 2  # the two halves of the picture
    layer = CRFRNN(SETTINGS, method=method, iterations=(2, 2))

    def loss(variables):
        out = layer.apply({"params": variables["params"]}, variables["logits"], image, sizes, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(out, jnp.broadcast_to(truth * 1, out.shape[:3])).mean()

    variables = {"params": init(layer, (logits, image, sizes)), "logits": jnp.array(logits)}
    both = jax.jit(jax.value_and_grad(loss))
    first, gradients = both(variables)
    leaves, treedef = jax.tree.flatten(variables)
    for i, gradient in enumerate(jax.tree.leaves(gradients)):
        way = np.random.default_rng(i).normal(size=gradient.shape).astype(np.float32)
        moved = [[*leaves[:i], leaves[i] + s * 0.02 * way, *leaves[i + 1 :]] for s in (1, -1)]
        ahead, behind = (both(jax.tree.unflatten(treedef, m))[0] for m in moved)
        np.testing.assert_allclose((gradient * way).sum(), (ahead - behind) / 0.04, rtol=3e-2, atol=1e-4)
        assert jnp.isfinite(gradient).all() and abs(gradient).max() > 0
    params = variables["params"]
    for _ in range(20):
        gradient = both({"params": params, "logits": logits})[1]["params"]
        params = jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)
    assert both({"params": params, "logits": logits})[0] < 0.9 * first


def test_other_weights_are_an_error():
    with pytest.raises(ValueError, match="weights 'many'"):
        init(CRFRNN(weights="many"), example())
