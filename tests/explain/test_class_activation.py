import jax
import numpy as np
import pytest
from flax import linen as nn

from jaxvision.explain.cam import cam, class_activation
from jaxvision.explain.grad_cam import grad_cam

IMAGES = np.random.default_rng(0).uniform(size=(2, 6, 5, 3)).astype(np.float32)


class Linear(nn.Module):
    """A mean and a linear layer, behind another of the same size that is not it."""

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(3, (3, 3), name="conv")(images))
        x = nn.Dense(3, name="between")(x)
        return nn.Dense(3, bias_init=nn.initializers.ones, name="head")(x.mean((1, 2)))


class Nested(nn.Module):
    """The same, its parameters a level deeper."""

    @nn.compact
    def __call__(self, images):
        return Linear(name="inner")(images)


class Classes(nn.Module):
    """NIN's way: the last map has a channel for each class."""

    rectified: bool

    @nn.compact
    def __call__(self, images):
        x = nn.Conv(4, (3, 3), name="head")(images)
        return (nn.relu(x) if self.rectified else x).mean((1, 2))


class Flat(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = nn.Conv(3, (3, 3), name="conv")(images)
        return nn.Dense(3, name="head")(x.reshape(2, -1))


def test_the_linear_layer_is_found_by_what_it_does():
    variables = Linear().init(jax.random.key(0), IMAGES)
    maps, logits = class_activation(Linear(), variables, IMAGES, "between")
    features = nn.Conv(3, (3, 3)).apply({"params": variables["params"]["conv"]}, IMAGES)
    features = nn.Dense(3).apply({"params": variables["params"]["between"]}, nn.relu(features))
    np.testing.assert_allclose(maps, cam(features, variables["params"]["head"]["kernel"]), atol=1e-5)
    np.testing.assert_allclose(maps.mean((1, 2)) + 1, logits, atol=1e-5)
    nested, _ = class_activation(Nested(), {"params": {"inner": variables["params"]}}, IMAGES, "inner/between")
    np.testing.assert_allclose(nested, maps, atol=1e-6)
    heat = grad_cam(Linear(), variables, IMAGES, "between", range(3))
    np.testing.assert_allclose(heat, np.maximum(np.moveaxis(maps, 3, 1), 0) / 30, atol=1e-6)


@pytest.mark.parametrize("rectified", [False, True])
def test_a_map_of_the_classes_is_one_of_evidence(rectified):
    model = Classes(rectified)
    variables = model.init(jax.random.key(1), IMAGES)
    maps, logits = class_activation(model, variables, IMAGES, "head")
    plain = np.asarray(nn.Conv(4, (3, 3)).apply({"params": variables["params"]["head"]}, IMAGES))
    np.testing.assert_allclose(maps, np.maximum(plain, 0) if rectified else plain, atol=1e-6)
    np.testing.assert_allclose(maps.mean((1, 2)), logits, atol=1e-6)
    assert plain.min() < -0.05


def test_class_maps_of_the_network_itself_are_taken():
    class Maps(nn.Module):
        @nn.compact
        def __call__(self, images):
            maps = nn.Dense(2, name="head")(images)
            return {"class_maps": maps, "logits": maps.max((1, 2))}

    variables = Maps().init(jax.random.key(0), IMAGES)
    maps, logits = class_activation(Maps(), variables, IMAGES, "class_maps")
    np.testing.assert_allclose(maps, Maps().apply(variables, IMAGES)["class_maps"], atol=1e-6)
    np.testing.assert_allclose(logits, maps.max((1, 2)), atol=1e-6)


def test_a_network_of_another_form_has_none():
    variables = Flat().init(jax.random.key(0), IMAGES)
    with pytest.raises(ValueError, match=r"logits of Flat are not the mean of conv and a linear layer.* take Grad-CAM"):
        class_activation(Flat(), variables, IMAGES, "conv")
    variables = Linear().init(jax.random.key(0), IMAGES)
    with pytest.raises(ValueError, match="not the mean of conv and a linear layer"):
        class_activation(Linear(), variables, IMAGES, "conv")
    with pytest.raises(ValueError, match=r"head of Linear has shape \(2, 3\)"):
        class_activation(Linear(), variables, IMAGES, "head")
