import jax
import numpy as np
import pytest
from small import batch_of, create, example, kept_and_dropped

from jaxvision import architecture as architectures
from jaxvision.models.backbones.vgg import VGG


def image(height, width):
    return {"image": np.zeros((1, height, width, 3), np.uint8), "image_size": np.array([[height, width]], np.int32)}


def test_names_set_the_depths():
    layers = {"vgg11": 8, "vgg13": 10, "vgg16": 13, "vgg19": 16}
    for name, count in layers.items():
        architecture = architectures.create("vgg", num_classes=3, trunk_name=name)
        assert sum(architecture.model.trunk.depths) == count
    assert create("vgg", depths=(1, 2)).model.trunk.depths == (1, 2)
    with pytest.raises(ValueError, match="no trunk 'vgg12'; known: vgg11, vgg13, vgg16, vgg19"):
        create("vgg", trunk_name="vgg12")


def test_convolutions_keep_their_bias_beside_a_norm_only_in_the_classifier():
    variables = jax.eval_shape(create("vgg", norm="batch").init, jax.random.key(0), image(64, 64))
    assert set(variables["params"]["trunk"]["block1"]["conv0"]) == {"kernel", "bias"}
    x = np.zeros((1, 64, 64, 3), np.float32)
    trunk = VGG((1, 1), (4, 4), norm="batch")
    assert set(jax.eval_shape(trunk.init, jax.random.key(0), x)["params"]["block1"]["conv0"]) == {"kernel"}


def test_any_size_from_32_is_scored():
    architecture = create("vgg")
    variables = jax.eval_shape(architecture.init, jax.random.key(0), image(32, 32))
    for size in ((32, 32), (100, 77), (224, 300)):
        assert jax.eval_shape(architecture.model.apply, variables, image(*size))["logits"].shape == (1, 3)
    with pytest.raises(ValueError, match=r"Images of 70x31 are too small .* smallest side has 32 pixels"):
        jax.eval_shape(architecture.model.apply, variables, image(70, 31))


def test_dropout_comes_after_the_dense_layers():
    """Where everything is dropped, the head's bias is left."""
    architecture = create("vgg", dropout=1.0)
    batch = batch_of([example(0)], "classification")
    variables = jax.tree.map(np.array, architecture.init(jax.random.key(0), batch))
    variables["params"]["head"]["bias"] = np.array([1, -2, 3], np.float32)
    variables["params"]["fc7"]["bias"] += 1
    kept, dropped = kept_and_dropped(architecture, variables, batch)
    np.testing.assert_array_equal(dropped["logits"][0], [1, -2, 3])
    assert not np.allclose(kept["logits"][0], [1, -2, 3])


def test_flat_pools_keep_the_size_and_take_windows_of_three():
    """Each cell of a flat pool is the maximum of its 3 x 3 neighbours; one of stride 2 takes every second of them."""
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    plain, flat = VGG((1, 1), (4, 5), last_pool=False), VGG((1, 1), (4, 5), window=3, flat=2)
    variables = {"params": flat.init(jax.random.key(0), x)["params"]}
    maps = flat.apply(variables, x)
    assert maps["c1"].shape == (1, 8, 8, 4) and maps["c2"].shape == (1, 8, 8, 5)
    whole = plain.clone(depths=(1,), widths=(4,))
    before = np.asarray(whole.apply({"params": {"block1": variables["params"]["block1"]}}, x)["c1"])
    padded = np.pad(before, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    expected = np.max([padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)], axis=0)
    np.testing.assert_allclose(maps["c1"], expected, rtol=1e-5)
    half = VGG((1, 1), (4, 5), window=3, flat=1).apply(variables, x)
    np.testing.assert_allclose(half["c1"], expected[:, ::2, ::2], rtol=1e-5)
    assert half["c2"].shape == (1, 4, 4, 5)
    assert flat.geometry()["c2"] == (1, 0) and VGG(window=3, flat=2).geometry()["c5"] == (8, 0)
