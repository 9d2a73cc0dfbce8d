import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from tiny import RESNET

import jaxvision
from jaxvision.explain.cam import cam
from jaxvision.explain.grad_cam import grad_cam
from jaxvision.explain.targets import RegionScore


def test_cam_adds_up_channels_by_the_weights_of_a_class():
    rng = np.random.default_rng(0)
    features, weights = rng.normal(size=(2, 3, 4, 5)).astype(np.float32), rng.normal(size=(5, 6)).astype(np.float32)
    expected = np.zeros((2, 3, 4, 6))
    for b, y, x, k in np.ndindex(expected.shape):
        expected[b, y, x, k] = sum(float(features[b, y, x, d]) * float(weights[d, k]) for d in range(5))
    np.testing.assert_allclose(cam(features, weights), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(cam(features, weights).mean((1, 2)), features.mean((1, 2)) @ weights, atol=1e-5)
    for wrong in (weights[:4], weights[:, 0]):
        with pytest.raises(ValueError, match=r"should be \(B, h, w, D\) and \(D, K\)"):
            cam(features, wrong)


@pytest.fixture(scope="module")
def resnet():
    """A mean and a linear layer behind c5."""
    architecture = jaxvision.create(num_classes=3, **RESNET)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    variables = architecture.init(jax.random.key(0), {"image": images, "image_size": np.full((2, 2), 64)})
    explain = functools.partial(grad_cam, architecture, variables, images)
    return SimpleNamespace(architecture=architecture, variables=variables, images=images, explain=explain)


def test_behind_a_mean_and_a_linear_layer_it_is_cam(resnet):
    batch = {"image": resnet.images, "image_size": np.full((2, 2), 64)}
    outputs = jax.jit(resnet.architecture.model.apply)(resnet.variables, batch)
    maps = np.moveaxis(cam(outputs["c5"], resnet.variables["params"]["head"]["kernel"]), 3, 1)
    cells = maps[0, 0].size
    assert cells > 1 and (maps > 0.1).any() and (maps < -0.1).any()
    np.testing.assert_allclose(resnet.explain("c5", range(3)), np.maximum(maps, 0) / cells, atol=1e-6)
    np.testing.assert_allclose(resnet.explain("c5", range(3), rectify=False), maps / cells, atol=1e-6)
    np.testing.assert_allclose(resnet.explain("c5", range(3), local=True), np.maximum(maps, 0) / cells, atol=1e-6)
    against = resnet.explain("c5", range(3), counterfactual=True)
    np.testing.assert_allclose(against, np.maximum(-maps, 0) / cells, atol=1e-6)


def test_classes_may_be_those_of_each_image(resnet):
    every = resnet.explain("c4", np.arange(3))
    own = resnet.explain("c4", np.array([[2, 0], [1, 1]]))
    np.testing.assert_allclose(own[0], every[0, [2, 0]], atol=1e-7)
    np.testing.assert_allclose(own[1], every[1, [1, 1]], atol=1e-7)
    np.testing.assert_allclose(resnet.explain("c4", 1)[:, 0], every[:, 1], atol=1e-7)
    assert np.asarray(every).max() > 0


def test_a_submodule_is_a_layer_too(resnet):
    by_name, by_path = (resnet.explain(layer, [0, 2]) for layer in ("c5", "trunk/c5_block0"))
    np.testing.assert_allclose(by_path, by_name, atol=1e-7)


def test_another_class_compiles_nothing_anew(resnet):
    from jaxvision.explain.grad_cam import _grad_cam

    resnet.explain("c5", [0, 1])
    before = _grad_cam._cache_size()
    resnet.explain("c5", [2, 0])
    assert _grad_cam._cache_size() == before


class Plain(nn.Module):
    """A model of one's own, on images: no named outputs, no argument but them."""

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(4, (3, 3), name="first")(images))
        x = nn.relu(nn.Dense(5, name="hidden")(x.reshape(len(x), -1)))
        return nn.Dense(3, name="last")(x)


class Named(Plain):
    @nn.compact
    def __call__(self, images, train):
        x = self.perturb("map", nn.relu(nn.Conv(4, (3, 3), name="first")(images)))
        hidden = nn.relu(nn.Dense(5, name="hidden")(x.reshape(len(x), -1)))
        if train:
            raise AssertionError("explained as it predicts")
        return {"map": x, "logits": nn.Dense(3, name="last")(hidden)}


def test_of_a_model_of_ones_own_by_hand():
    images = jax.random.normal(jax.random.key(0), (2, 6, 5, 3))
    variables = Plain().init(jax.random.key(1), images)
    first = nn.Conv(4, (3, 3)).apply({"params": variables["params"]["first"]}, images)
    for model, layer, seen in ((Plain(), "first", first), (Named(), "map", nn.relu(first))):
        params = jax.tree.map(np.asarray, variables["params"])
        features = np.asarray(seen, np.float64)
        hidden = np.maximum(first, 0).reshape(2, -1) @ params["hidden"]["kernel"] + params["hidden"]["bias"]
        expected = np.zeros((2, 3, 6, 5))
        for b in range(2):
            for k in range(3):
                signal = params["last"]["kernel"][:, k] * (hidden[b] > 0)
                gradient = (params["hidden"]["kernel"] @ signal).reshape(6, 5, 4)
                if layer == "first":  # before the ReLU, which is closed where it is negative
                    gradient = gradient * (features[b] > 0)
                expected[b, k] = np.maximum(features[b] @ gradient.mean((0, 1)), 0)
        np.testing.assert_allclose(grad_cam(model, variables, images, layer, range(3)), expected, atol=1e-6)
        assert expected.max() > 0.01


def test_a_target_may_be_any_function(resnet):
    def margin(outputs):
        return outputs["logits"][:, 0] - outputs["logits"][:, 1]

    parts = resnet.explain("c5", [0, 1], rectify=False)
    whole = resnet.explain("c5", [margin, lambda outputs: margin(outputs).sum(), 1], rectify=False)
    np.testing.assert_allclose(whole[:, 0], parts[:, 0] - parts[:, 1], atol=1e-6)
    np.testing.assert_allclose(whole[:, 1:], np.stack([whole[:, 0], parts[:, 1]], 1), atol=1e-6)


def test_images_do_not_mix(resnet):
    alone = grad_cam(resnet.architecture, resnet.variables, resnet.images[1:], "c4", range(3))
    np.testing.assert_allclose(resnet.explain("c4", range(3))[1:], alone, atol=1e-6)


def test_images_stand_for_a_batch(resnet):
    batch = {"image": resnet.images, "image_size": np.full((2, 2), 64), "image_id": np.arange(2), "label": np.zeros(2)}
    maps = grad_cam(resnet.architecture, resnet.variables, batch, "c5", range(3))
    np.testing.assert_array_equal(maps, resnet.explain("c5", range(3)))
    with pytest.raises(ValueError, match=r"images \(B, H, W, 3\); got \(64, 64, 3\)"):
        grad_cam(resnet.architecture, resnet.variables, resnet.images[0], "c5", range(3))


@pytest.fixture(scope="module")
def linear():
    """A segmenter that is one 1x1 convolution of a map: its Grad-CAM can be written down."""

    class Segmenter(nn.Module):
        @nn.compact
        def __call__(self, images):
            x = self.perturb("map", images)
            logits = nn.Dense(2, name="head")(x)
            return {"map": x, "logits": logits, "semantic": logits.argmax(-1)}

    images = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    variables = Segmenter().init(jax.random.key(1), images)
    outputs = Segmenter().apply(variables, images)
    weights = np.asarray(variables["params"]["head"]["kernel"])
    return functools.partial(grad_cam, Segmenter(), variables, images), np.asarray(images), weights, outputs


def test_a_region_counts_its_pixels(linear):
    explain, images, weights, outputs = linear
    predicted = np.asarray(outputs["semantic"] == 1)
    mask = np.zeros((4, 6), bool)
    mask[1, 2:5] = True
    targets = [RegionScore(1), RegionScore(1, box=np.array([2, 1, 5, 2])), RegionScore(0, mask=mask)]
    targets += [RegionScore(1, box=np.array([2.6, 1, 9, 9.0]), mask=mask)]
    maps = explain("map", targets, rectify=False)
    assert maps.shape == (2, 4, 4, 6)
    local = explain("map", targets, rectify=False, local=True)
    box, both = np.zeros((2, 4, 6), bool)
    box[1, 2:5], both[1, 3:5] = True, True
    for b in range(2):
        for t, (k, region) in enumerate(((1, predicted[b]), (1, box), (0, mask), (1, both))):
            evidence = images[b] @ weights[:, k]
            np.testing.assert_allclose(maps[b, t], evidence * region.sum() / 24, atol=1e-5)
            np.testing.assert_allclose(local[b, t], evidence * region, atol=1e-5)  # and nowhere else


def test_what_does_not_exist_is_said(resnet, linear):
    for layer, text in (
        ("c6", r"resnet has no layer 'c6'; did you mean \"c5\"\? Known: c1, c2, c3, c4, c5\."),
        ("trunk/c9", r"has no layer 'trunk/c9'; .*as 'trunk/stem'"),
        ("logits", r"logits of resnet has shape \(2, 3\): a map needs height and width, as c1, c2, c3, c4, c5 have"),
        ("head", r"head of resnet has shape \(2, 3\): a map needs height and width"),
        ("probabilities", r"probabilities of resnet has shape \(2, 3\)"),
    ):
        with pytest.raises(ValueError, match=text):
            resnet.explain(layer, [0])
    for targets, text in (
        ([0, 3], "Class 3 does not exist: there are 3, 0 to 2"),
        ([-1], "Class -1 does not exist"),
        (np.array([[0, 1], [1, 7]]), "Class 7 does not exist"),
        ([0.5], "Class 0.5 is not a whole number"),
        ([], "nothing to explain"),
        ([RegionScore(0)], "A region is explained of a segmenter"),
    ):
        with pytest.raises(ValueError, match=text):
            resnet.explain("c5", targets)
    for targets, text in (
        ([0], "A class alone is explained of a classifier"),
        ([RegionScore(2)], "Class 2 does not exist: there are 2, 0 to 1"),
        ([RegionScore(0, mask=np.ones((4, 5)))], r"mask has shape \(4, 5\), the canvas \(4, 6\)"),
        ([RegionScore(0, box=np.ones(5))], r"box has shape \(5,\); give \(4,\)"),
    ):
        with pytest.raises(ValueError, match=text):
            linear[0]("map", targets)


def test_a_module_that_is_called_twice_is_no_layer():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            conv = nn.Conv(3, (3, 3), name="conv")
            return conv(conv(x)).mean((1, 2))

    images = jnp.ones((1, 4, 4, 3))
    with pytest.raises(ValueError, match="conv of Twice is called 2 times"):
        grad_cam(Twice(), Twice().init(jax.random.key(0), images), images, "conv", [0])


def test_a_map_in_which_nothing_can_be_differentiated():
    class Half(nn.Module):
        @nn.compact
        def __call__(self, x):
            lost = self.perturb("lost", nn.Conv(3, (3, 3), name="conv")(x))
            kept = self.perturb("kept", nn.relu(lost))
            return {"kept": kept, "doubled": 2 * kept, "logits": (2 * kept).mean((1, 2))}

    images = jnp.ones((1, 4, 4, 3))
    variables = Half().init(jax.random.key(0), images)
    for layer, text in (
        ("doubled", "doubled of Half is an output in which nothing can be differentiated; in kept one can"),
        ("lost", "lost of Half passes through `self.perturb` but is not returned"),
    ):
        with pytest.raises(ValueError, match=text):
            grad_cam(Half(), variables, images, layer, [0])
