import jax
import numpy as np
import pytest
from small import batch_of, create, example, kept_and_dropped

from jaxvision.models.backbones.squeezenet import SqueezeNet


def image(height, width):
    return {"image": np.zeros((1, height, width, 3), np.uint8), "image_size": np.array([[height, width]], np.int32)}


@pytest.mark.parametrize(
    ("version", "sides", "stem"), [("1_0", (109, 54, 27, 27, 13), 96), ("1_1", (111, 55, 27, 13, 13), 64)]
)
def test_maps_and_their_strides(version, sides, stem):
    x = np.zeros((1, 224, 224, 3), np.float32)
    maps, _ = jax.eval_shape(lambda: SqueezeNet(version).init_with_output(jax.random.key(0), x))
    channels = (stem, 128, 256, 384, 512)
    expected = {f"c{i}": (1, side, side, c) for i, (side, c) in enumerate(zip(sides, channels), 1)}
    assert {name: value.shape for name, value in maps.items()} == expected


@pytest.mark.parametrize(("version", "smallest"), [("1_0", 21), ("1_1", 17)])
def test_any_size_that_leaves_a_cell_is_scored(version, smallest):
    architecture = create("squeezenet", version=version)
    variables = jax.eval_shape(architecture.init, jax.random.key(0), image(smallest, smallest))
    for size in ((smallest, smallest), (100, 77)):
        outputs = jax.eval_shape(architecture.model.apply, variables, image(*size))
        assert outputs["logits"].shape == (1, 3) and min(outputs["c5"].shape) > 0
    with pytest.raises(ValueError, match=rf"Images of {smallest - 1}x70 .* smallest side has {smallest} pixels"):
        jax.eval_shape(architecture.model.apply, variables, image(smallest - 1, 70))


def test_logits_are_means_of_scores_after_relu():
    architecture = create("squeezenet", dropout=1.0)
    batch = batch_of([example(0)], "classification")
    variables = jax.tree.map(np.array, architecture.init(jax.random.key(0), batch))
    head = variables["params"]["head"]
    head["bias"] = np.array([0.5, -0.5, 0.0], np.float32)
    outputs, dropped = kept_and_dropped(architecture, variables, batch)
    scores = np.maximum(np.asarray(outputs["c5"]) @ head["kernel"][0, 0] + head["bias"], 0)
    np.testing.assert_allclose(outputs["logits"], scores.mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dropped["logits"][0], [0.5, 0, 0])


def test_an_unknown_version_is_an_error():
    with pytest.raises(ValueError, match=r"version '1\.1' is not one of '1_0', '1_1'"):
        create("squeezenet", version="1.1")
