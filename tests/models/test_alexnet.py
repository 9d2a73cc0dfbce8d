import jax
import numpy as np
import pytest
from small import batch_of, create, example, kept_and_dropped

from jaxvision.models.backbones.alexnet import AlexNet


def image(height, width):
    return {"image": np.zeros((1, height, width, 3), np.uint8), "image_size": np.array([[height, width]], np.int32)}


def test_maps_are_the_five_convolutions():
    x = np.zeros((1, 224, 160, 3), np.float32)
    maps, _ = jax.eval_shape(lambda: AlexNet().init_with_output(jax.random.key(0), x))
    sizes = {"c1": (55, 39, 64), "c2": (27, 19, 192), "c3": (13, 9, 384), "c4": (13, 9, 256), "c5": (13, 9, 256)}
    sizes["pool5"] = (6, 4, 256)
    assert {name: value.shape[1:] for name, value in maps.items()} == sizes


def test_any_size_from_63_is_scored():
    architecture = create("alexnet")
    variables = jax.eval_shape(architecture.init, jax.random.key(0), image(63, 63))
    for size in ((63, 63), (63, 200), (100, 77)):
        assert jax.eval_shape(architecture.model.apply, variables, image(*size))["logits"].shape == (1, 3)
    with pytest.raises(ValueError, match=r"Images of 70x62 are too small .* smallest side has 63 pixels"):
        jax.eval_shape(architecture.model.apply, variables, image(70, 62))


def test_dropout_comes_before_the_dense_layers():
    """Where everything is dropped, fc7 is its bias alone."""
    architecture = create("alexnet", dropout=1.0)
    batch = batch_of([example(0)], "classification")
    variables = jax.tree.map(np.array, architecture.init(jax.random.key(0), batch))
    params, rng = variables["params"], np.random.default_rng(0)
    params["fc7"]["bias"] = rng.normal(size=params["fc7"]["bias"].shape).astype(np.float32)
    kept, dropped = kept_and_dropped(architecture, variables, batch)
    expected = np.maximum(params["fc7"]["bias"], 0) @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(dropped["logits"][0], expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(kept["logits"][0], expected)
