import importlib
import pathlib

import jax
import numpy as np
import pytest
from small import create, shapes

from jaxvision import architecture as architectures
from jaxvision.models.backbones import xception


def sizes(canvas=(65, 97), **options):
    """{name: (height, width, channels)} of every map."""
    architecture = architectures.create("deeplabv3plus", num_classes=5, **options)
    batch = {"image": np.zeros((1, *canvas, 3), np.uint8), "image_size": np.array([canvas], np.int32)}
    outputs, _ = jax.eval_shape(lambda: architecture.model.init_with_output(jax.random.key(0), batch))
    return {name: value.shape[1:] for name, value in outputs.items()}


def test_maps_of_each_output_stride():
    for stride, c4, c5 in ((16, (5, 7), (5, 7)), (8, (9, 13), (9, 13)), (32, (5, 7), (3, 4))):
        found = sizes(backbone="xception41", middle=1, width=0.125, output_stride=stride)
        assert found["c1"] == (33, 49, 8) and found["c2"] == (17, 25, 16) and found["low"] == (17, 25, 32)
        assert found["c3"] == (9, 13, 32) and found["c4"] == (*c4, 91) and found["c5"] == (*c5, 256)
        assert found["pyramid"] == (*c5, 256) and found["decoder"] == (17, 25, 256)
        assert found["logits"] == (65, 97, 5)
    found = sizes(backbone="resnet50", depths=(1, 1, 1, 1), widths=(4, 4, 8, 8), features=16, low_features=6)
    assert found["c2"] == (17, 25, 16) and found["decoder"] == (17, 25, 16)


def test_a_denser_map_holds_the_coarser_ones():
    """Dilations stand in for the strides left out, so that every second or fourth cell is the coarser network's."""
    image = np.random.default_rng(0).normal(size=(1, 65, 97, 3)).astype(np.float32)
    trunks = {n: xception.trunk("xception41", middle=1, width=0.03, norm="none", output_stride=n) for n in (8, 16, 32)}
    variables = {"params": jax.jit(trunks[32].init)(jax.random.key(0), image)["params"]}
    maps = {n: jax.jit(trunk.apply)(variables, image)["c5"] for n, trunk in trunks.items()}
    assert maps[32].shape[1:3] == (3, 4) and abs(maps[32]).max() > 1e-3
    for stride in (8, 16):
        step = 32 // stride
        np.testing.assert_allclose(maps[stride][:, ::step, ::step], maps[32], rtol=0, atol=1e-5 * abs(maps[32]).max())


def test_rates_follow_the_output_stride():
    for stride, rates in ((16, (6, 12, 18)), (8, (12, 24, 36))):
        assert architectures.create("deeplabv3plus", num_classes=2, output_stride=stride).model.rates == rates
    assert create("deeplabv3plus").model.rates == (1, 2)


def test_options_of_another_trunk_are_errors():
    with pytest.raises(ValueError, match="output_stride of xception65 is one of 8, 16, 32, not 4"):
        architectures.create("deeplabv3plus", num_classes=2, output_stride=4)
    with pytest.raises(ValueError, match="'resnet50' has no option middle"):
        architectures.create("deeplabv3plus", num_classes=2, backbone="resnet50", middle=3)
    with pytest.raises(ValueError, match="no trunk 'xception66'; known: xception41"):
        architectures.create("deeplabv3plus", num_classes=2, backbone="xception66")


def test_decoder_has_the_papers_channels():
    params = shapes("deeplabv3plus", num_classes=21, canvas=(65, 65))["params"]
    assert params["low"]["kernel"].shape == (1, 1, 256, 48)
    assert params["decoder1"]["depthwise"]["kernel"].shape == (3, 3, 1, 304)
    assert params["decoder2"]["pointwise"]["kernel"].shape == (1, 1, 256, 256)
    assert params["logits"]["kernel"].shape == (1, 1, 256, 21)


@pytest.mark.parametrize(("backbone", "separable"), [("resnet101", False), ("xception65", True)])
def test_the_recipes_convolutions_are_separable_on_xception_alone(backbone, separable, monkeypatch):
    """As in the paper's tables, whose ResNets have plain ones in ASPP and decoder."""
    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parents[2]))
    options = importlib.import_module("configs.deeplabv3plus_voc").get_config(backbone).architecture.to_dict()
    params = shapes(**options, num_classes=21, canvas=(65, 65))["params"]
    for module in (params["aspp"]["conv1"], params["aspp"]["conv3"], params["decoder1"], params["decoder2"]):
        assert ("depthwise" in module) == separable != ("kernel" in module)
