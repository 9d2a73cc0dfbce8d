import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import batch_of, create, example

from jaxvision.models.backbones.googlenet import GoogLeNet


def image(height, width):
    return {"image": np.zeros((1, height, width, 3), np.uint8), "image_size": np.array([[height, width]], np.int32)}


def test_maps_and_their_strides():
    x = np.zeros((1, 224, 160, 3), np.float32)
    maps, variables = jax.eval_shape(lambda: GoogLeNet().init_with_output(jax.random.key(0), x))
    channels = {"c1": 64, "c2": 192, "c3": 480, "c4": 832, "c5": 1024}
    expected = {name: (1, 224 >> int(name[1]), 160 >> int(name[1]), c) for name, c in channels.items()}
    expected |= {"c4a": (1, 14, 10, 512), "c4d": (1, 14, 10, 528)}
    assert {name: value.shape for name, value in maps.items()} == expected
    assert "bias" not in variables["params"]["conv1"]["conv"]  # the norm's does


def test_any_size_from_15_is_scored():
    architecture = create("googlenet")
    variables = jax.eval_shape(architecture.init, jax.random.key(0), image(15, 15))
    for size in ((15, 15), (100, 77)):
        outputs = jax.eval_shape(architecture.model.apply, variables, image(*size))
        assert {outputs[name].shape for name in ("logits", "aux1_logits", "aux2_logits")} == {(1, 3)}
    with pytest.raises(ValueError, match=r"Images of 14x70 .* smallest side has 15 pixels"):
        jax.eval_shape(architecture.model.apply, variables, image(14, 70))


def test_auxiliary_losses_weigh_a_third_and_read_the_middle():
    architecture = create("googlenet")
    assert architecture.weights == {"aux1": 0.3, "aux2": 0.3}
    batch = batch_of([example(0), example(1)], "classification")
    variables = architecture.init(jax.random.key(0), batch)

    def losses(variables):
        outputs = architecture.model.apply(variables, batch)
        return {name: total for name, (total, _) in architecture.losses(outputs, batch).items()}

    gradients = jax.jit(jax.jacrev(losses))(variables)
    assert set(gradients) == {"class", "aux1", "aux2"}

    def reached(loss, layer):
        return any(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients[loss]["params"]["trunk"][layer]))

    last = {"class": "5b", "aux1": "4a", "aux2": "4d"}
    for loss, layer in last.items():
        for name in ("4a", "4b", "4d", "4e", "5b"):
            assert reached(loss, f"inception{name}") == (name <= layer), (loss, name)


def test_input_may_be_normalised_by_one_half():
    plain, transformed = create("googlenet"), create("googlenet", transform_input=True)
    batch = batch_of([example(0)], "classification")
    variables = plain.init(jax.random.key(0), batch)
    image = batch["image"] / 255
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    halved = (image - 0.5) / 0.5 * std + mean  # what `plain` normalises to (image - 0.5) / 0.5
    score = jax.jit(lambda model, image: model.apply(variables, {**batch, "image": image})["logits"], static_argnums=0)
    expected = score(plain.model, halved.astype(np.float32))
    logits = score(transformed.model, image.astype(np.float32))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    other = score(plain.model, image.astype(np.float32))
    assert np.abs(other - expected).max() > 1e-2 * np.abs(expected).max()
