import jax
import numpy as np
import pytest
from flax import linen as nn
from tiny import MASK_RCNN, RESNET

import jaxvision
from jaxvision.explain.features import _features

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
BATCH = {"image": IMAGES, "image_size": np.full((2, 2), 64)}


@pytest.mark.parametrize("name", ["resnet", "mask_rcnn"])
def test_bit_for_bit_what_the_whole_network_has(name):
    options = {"resnet": RESNET, "mask_rcnn": MASK_RCNN}[name]
    architecture = jaxvision.create(num_classes=4, **options)
    variables = architecture.init(jax.random.key(0), BATCH)
    whole = jax.jit(architecture.model.apply)(variables, BATCH)
    layers = ("c1", "c2", "c3", "c4", "c5", "logits") if name == "resnet" else ("c4", "p3")
    for layer in layers:
        found = jaxvision.features(architecture, variables, IMAGES, layer)
        np.testing.assert_array_equal(found, whole[layer], err_msg=layer)
        np.testing.assert_array_equal(jaxvision.features(architecture, variables, BATCH, layer), whole[layer])
    assert np.asarray(whole["c4"]).std() > 0


class Own(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(4, (3, 3), name="first")(images))
        return nn.Dense(2, name="last")(nn.relu(nn.Conv(5, (3, 3), name="second")(x)).mean((1, 2)))


def test_of_a_model_of_ones_own_by_the_names_of_its_modules():
    images = IMAGES / np.float32(255)
    variables = Own().init(jax.random.key(0), images)
    first = nn.Conv(4, (3, 3)).apply({"params": variables["params"]["first"]}, images)
    np.testing.assert_allclose(jaxvision.features(Own(), variables, images, "first"), first, atol=1e-6)
    np.testing.assert_allclose(
        jaxvision.features(Own(), variables, images, "logits"), Own().apply(variables, images), atol=1e-6
    )
    with pytest.raises(
        ValueError, match="Own has no layer 'frist'; did you mean \"first\"\\? Known: first, last, second"
    ):
        jaxvision.features(Own(), variables, images, "frist")


def test_what_lies_behind_is_not_computed():
    from jaxvision.explain.endpoints import Endpoint, prepared

    architecture = jaxvision.create(num_classes=4, **RESNET)
    variables = jax.eval_shape(architecture.init, jax.random.key(0), BATCH)
    network, _, _ = prepared(architecture, variables, BATCH)
    lowered = {layer: _features.lower(network, Endpoint(layer, ()), variables, BATCH) for layer in ("c1", "logits")}
    counts = {layer: one.compile().cost_analysis()["flops"] for layer, one in lowered.items()}
    assert counts["c1"] < 0.8 * counts["logits"]


def test_a_layer_that_does_not_exist():
    architecture = jaxvision.create(num_classes=4, **RESNET)
    variables = jax.eval_shape(architecture.init, jax.random.key(0), BATCH)
    with pytest.raises(ValueError, match=r"resnet has no layer 'c6'; .*Known: c1, c2, c3, c4, c5"):
        jaxvision.features(architecture, variables, IMAGES, "c6")
