"""Class activation maps: what they are made of, and networks of published size."""

import jax
import numpy as np
import pytest
from small import SIDE, Network, create, example, shapes
from test_parameter_counts import VGG16, size

from jaxvision import architecture as architectures
from jaxvision.batch import blank
from jaxvision.models.weak.trunks import read_map


@pytest.fixture(scope="module")
def network():
    return Network("cam")


def test_a_classs_score_is_the_mean_of_its_map_plus_its_bias(network):
    head = {**network.variables["params"]["head"], "bias": np.float32([0.5, -1, 2])}
    variables = {**network.variables, "params": {**network.variables["params"], "head": head}}
    outputs, _, predictions = network.forward(variables, network.batch(network.pictures))
    maps, logits = np.asarray(outputs["class_maps"], np.float64), np.asarray(outputs["logits"])
    assert maps.shape == (2, 8, 8, 3) and maps.std(axis=(1, 2)).min() > 0
    np.testing.assert_allclose(logits, maps.mean((1, 2)) + head["bias"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(predictions["class_maps"], outputs["class_maps"])


def test_a_map_is_the_weighted_sum_of_what_is_averaged(network):
    outputs, _, _ = network.forward(network.variables, network.batch(network.pictures))
    kernel, gap = np.asarray(network.variables["params"]["head"]["kernel"]), np.asarray(outputs["gap"])
    for i, y, x, k in ((0, 0, 0, 0), (1, 3, 7, 2), (0, 7, 2, 1)):
        expected = sum(float(kernel[d, k]) * float(gap[i, y, x, d]) for d in range(len(kernel)))
        assert outputs["class_maps"][i, y, x, k] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_extent_is_the_images_part_of_the_grid(network):
    batch = {**network.batch(network.pictures), "image_size": np.array([[64, 64], [32, 48]], np.int32)}
    _, _, predictions = network.forward(network.variables, batch)
    np.testing.assert_array_equal(predictions["map_extent"], [[8, 8], [4, 6]])


def test_a_trunk_gives_the_classifiers_own_map():
    """Of a classifier whose colours have another mean."""
    options, layer = dict(stages=(((4, 3, 1),), ((6, 3, 1),)), pools=2), "c2"
    classifier = architectures.create("darknet", num_classes=3, **options)
    cam = architectures.create("cam", num_classes=3, backbone=dict(name="darknet", **options), layer=layer)
    batch = {**blank(("label",), (32, 32)), "image": example(1, 32)["image"][None]}
    own = cam.init(jax.random.key(1), batch)
    maps = jax.jit(lambda v: cam.model.apply(v, batch))(own)
    head = {"head": {"kernel": np.zeros((maps["gap"].shape[-1], 3), np.float32), "bias": np.zeros(3, np.float32)}}
    variables = {kind: {"trunk": own[kind]["trunk"]} | (head if kind == "params" else {}) for kind in own}
    same = jax.jit(lambda v: classifier.model.apply(v, batch))(variables)[layer]
    np.testing.assert_allclose(maps["gap"], same, rtol=1e-5, atol=1e-6)
    assert maps["class_maps"].shape == (*same.shape[:3], 3)


@pytest.mark.parametrize(
    ("name", "layer"), [("alexnet", "c3"), ("googlenet", "c4d"), ("mobilenet_v3", "final"), ("squeezenet", "c5")]
)
def test_any_classifier_and_any_of_its_maps_can_be_the_trunk(name, layer):
    cam = architectures.create("cam", num_classes=3, backbone=name, layer=layer, convs=())
    batch = blank(("label",), (SIDE, SIDE))
    classifier = architectures.create(name, num_classes=3)
    outputs, expected = (
        jax.eval_shape(a.model.apply, jax.eval_shape(a.init, jax.random.key(0), batch), batch)
        for a in (cam, classifier)
    )
    assert outputs["gap"].shape == expected[layer].shape
    assert outputs["class_maps"].shape == (*expected[layer].shape[:3], 3) and outputs["logits"].shape == (1, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(backbone="vgg17"), "no backbone 'vgg17'; did you mean \"vgg16\""),
        (dict(backbone="lraspp"), "'lraspp', for segmentation, is none"),
        (dict(backbone=dict(name="vgg", last_pol=False)), "no option 'last_pol'; did you mean \"last_pool\""),
        (dict(backbone=dict(name="vgg16", depth=(1,))), "'vgg' has no option 'depth'; did you mean \"depths\""),
        (dict(backbone=dict(depths=(1,))), "A backbone needs the name of a classifier"),
    ],
)
def test_what_there_is_not_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        create("cam", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(layer="c7"), "no map 'c7'; .*Known: c1, c2, c3, c4"),
        (dict(backbone=dict(name="vgg", depths=(1,) * 7, widths=(4,) * 7), layer="c7"), "no place for a window of 2"),
    ],
)
def test_a_layer_that_is_not_there_or_has_no_space(changes, message):
    cam = create("cam", **changes)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(cam.init, jax.random.key(0), blank(("label",), (SIDE, SIDE)))


def test_a_map_without_space_is_an_error():
    batch = blank(("label",), (8, 8))
    for shape in ((1, 5), (1, 0, 3, 5)):
        with pytest.raises(ValueError, match=r"'flat' is of shape .* without a place"):
            read_map(lambda x, train, s=shape: {"flat": np.zeros(s)}, "flat", batch, False, (0.5,) * 3, (0.5,) * 3)


def test_published_networks_have_their_sizes_and_grids():
    """VGG16's convolutions and 3x3 in two groups, 14 x 14 cells; inceptions to 4e, 14 x 14; AlexNet's five, 13 x 13."""

    def grid(backbone, side):
        cam = architectures.create("cam", num_classes=1000, backbone=backbone)
        batch = blank(("label",), (side, side))
        variables = jax.eval_shape(cam.init, jax.random.key(0), batch)
        maps = jax.eval_shape(cam.model.apply, variables, batch)["class_maps"]
        return maps.shape, variables["params"]

    shape, params = grid("vgg16", 224)
    assert shape == (1, 14, 14, 1000)
    assert size(params) == sum((9 * i + 1) * o for i, o in VGG16) + (9 * 256 + 1) * 1024 + 1025 * 1000 == 18_100_008
    shape, params = grid("googlenet", 224)
    assert shape == (1, 14, 14, 1000) and not any(name.startswith("inception5") for name in params["trunk"])
    whole = shapes("googlenet", num_classes=1000, aux=False)["params"]["trunk"]
    last = sum(size(value) for name, value in whole.items() if name.startswith("inception5"))
    assert size(params) == size(whole) - last + (9 * 832 + 1) * 1024 + 1025 * 1000
    shape, params = grid("alexnet", 224)
    assert shape == (1, 13, 13, 1000)
    convolutions = [(11 * 11 * 3, 64), (25 * 64, 192), (9 * 192, 384), (9 * 384, 256), (9 * 256, 256)]
    convolutions += [(9 * 128, 512), (9 * 256, 512)]
    assert size(params) == sum((i + 1) * o for i, o in convolutions) + 513 * 1000
