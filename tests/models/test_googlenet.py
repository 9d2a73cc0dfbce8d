import jax
import numpy as np
import pytest
from small import batch_of, create, example, shapes

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


def test_without_its_auxiliary_classifiers_it_has_the_published_size():
    params = shapes("googlenet", num_classes=1000)["params"]
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in params.items()}
    assert sizes["trunk"] + sizes["head"] == 6_624_904


def test_any_size_from_15_is_scored():
    architecture = create("googlenet")
    variables = jax.eval_shape(architecture.init, jax.random.key(0), image(15, 15))
    for size in ((15, 15), (100, 77)):
        outputs = jax.eval_shape(architecture.model.apply, variables, image(*size))
        assert {outputs[name].shape for name in ("logits", "aux1_logits", "aux2_logits")} == {(1, 3)}
    with pytest.raises(ValueError, match=r"Images of 14x70 .* smallest side has 15 pixels"):
        jax.eval_shape(architecture.model.apply, variables, image(14, 70))


@pytest.fixture(scope="module")
def variables():
    return create("googlenet").init(jax.random.key(0), image(64, 64))


def test_auxiliary_classifiers_read_the_middle(variables):
    architecture = create("googlenet")
    assert architecture.weights == {"aux1": 0.3, "aux2": 0.3}
    batch = batch_of([example(0), example(1)], "classification")

    @jax.jit
    def losses(variables):
        terms = architecture.losses(architecture.model.apply(variables, batch), batch)
        return {name: total / count for name, (total, count) in terms.items()}

    before = losses(variables)
    last = {"aux1": "4a", "aux2": "4d", "class": "5b"}
    assert set(before) == set(last)
    for layer in ("4a", "4b", "4d", "4e", "5b"):
        trunk = {**variables["params"]["trunk"]}
        trunk[f"inception{layer}"] = jax.tree.map(lambda leaf: leaf + 0.1, trunk[f"inception{layer}"])
        after = losses({**variables, "params": {**variables["params"], "trunk": trunk}})
        assert {name for name in last if after[name] != before[name]} == {n for n, end in last.items() if layer <= end}


def test_input_may_be_normalised_by_one_half(variables):
    batch = batch_of([example(0)], "classification")
    pixels = batch["image"] / 255
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    halved = (pixels - 0.5) / 0.5 * std + mean  # what is normalised to (pixels - 0.5) / 0.5

    def first(pixels, **options):
        model = create("googlenet", **options).model
        read = {**batch, "image": pixels.astype(np.float32)}
        return jax.jit(lambda v: model.apply(v, read)["c1"])(variables)

    expected = first(halved)
    np.testing.assert_allclose(first(pixels, transform_input=True), expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(first(pixels) - expected).max() > 1e-2 * np.abs(expected).max()
