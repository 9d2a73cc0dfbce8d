import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from small import SMALL, create

from jaxvision import architecture as architectures
from jaxvision.layers.geometry import Geometry
from jaxvision.models.backbones.alexnet import AlexNet
from jaxvision.models.backbones.googlenet import GoogLeNet
from jaxvision.models.backbones.vgg import VGG
from jaxvision.models.segmentation.fcn import FCN, Upscore, _aligned
from jaxvision.ops.images import normalize
from jaxvision.ops.resize import bilinear_kernel, conv_transpose
from jaxvision.train import init
from jaxvision.train.optimizer import path_name

RNG = np.random.default_rng(0)
NAMES = ["fcn32s", "fcn16s", "fcn8s"]


def batch_of(*size):
    image = np.random.default_rng(sum(size)).integers(0, 256, (1, *size, 3)).astype(np.uint8)
    return {"image": image, "image_size": np.array([size], np.int32)}


def perturbed(variables):
    """Variables in which nothing is zero: FCN's scores begin there."""
    leaves, structure = jax.tree.flatten(variables)
    noise = [leaf + 0.2 * np.random.default_rng(i).normal(size=leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, [np.asarray(leaf, np.float32) for leaf in noise])


# Where the maps lie


def test_crops_are_those_of_caffe():
    """fcn.berkeleyvision.org's nets crop score_pool4 by 5, score_pool3 by 9, and the scores by 19, 27 and 31."""
    maps = VGG(pad=100, ceil_mode=True).geometry()
    # By hand: conv1_1 begins at 1 - 100, each pool adds half its input's stride, fc6 three cells of 32.
    assert maps["c3"] == Geometry(8, 1 - 100 + 0.5 + 1 + 2)
    assert maps["c4"] == Geometry(16, 1 - 100 + 0.5 + 1 + 2 + 4)
    assert maps["c5"] == Geometry(32, 1 - 100 + 0.5 + 1 + 2 + 4 + 8)
    scores, image = maps["c5"].conv(7, 1, 0), Geometry()
    assert scores == Geometry(32, 12.5)
    assert Upscore(32, False).geometry(scores).offset(image) == 19
    twice = Upscore(2, True).geometry(scores)
    assert maps["c4"].offset(twice) == 5
    assert Upscore(16, False).geometry(twice).offset(image) == 27
    four_times = Upscore(2, True).geometry(twice)
    assert maps["c3"].offset(four_times) == 9
    assert Upscore(8, False).geometry(four_times).offset(image) == 31


def slow_conv_transpose(x, kernel, stride):
    size = len(kernel)
    height, width = ((n - 1) * stride + size for n in x.shape[1:3])
    out = np.zeros((len(x), height, width, kernel.shape[2]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            part = np.einsum("bi,hwoi->bhwo", x[:, i, j], kernel)
            out[:, i * stride : i * stride + size, j * stride : j * stride + size] += part
    return out


def caffe_net(params, image, stride, pad):
    """FCN as Caffe's prototxt has it: VALID convolutions on padded maps, ceil-mode pools, crops by its numbers."""

    def conv(x, p, padding):
        x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, p["kernel"], (1, 1), "VALID", dimension_numbers=numbers) + p["bias"]

    x, pools = image, {}
    for stage in range(1, 6):
        first = pad if stage == 1 else 1
        x = jax.nn.relu(conv(x, params["trunk"][f"block{stage}"]["conv0"], first))
        odd = [n % 2 for n in x.shape[1:3]]
        x = jnp.pad(x, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)), constant_values=-jnp.inf)
        x = pools[stage] = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(conv(x, params["fc6"], 0))
    x = jax.nn.relu(conv(x, params["fc7"], 0))
    x = np.array(conv(x, params["score"], 0))
    for name, stage, crop in (("c4", 4, 5), ("c3", 3, 9)):
        if f"score_{name}" in params:
            x = slow_conv_transpose(x, params[f"upscore_{name}"]["kernel"], 2)
            skip = np.array(conv(pools[stage], params[f"score_{name}"], 0))
            x = x + skip[:, crop : crop + x.shape[1], crop : crop + x.shape[2]]
    kernel = bilinear_kernel(2 * stride)[:, :, None, None] * np.eye(x.shape[-1])
    x, crop = slow_conv_transpose(x, kernel, stride), {32: 19, 16: 27, 8: 31}[stride]
    return x[:, crop : crop + image.shape[1], crop : crop + image.shape[2]]


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_caffes_net(name):
    """With the paper's padding of 100, on an image of odd size."""
    stride = int(name[3:-1])
    options = {"depths": (1,) * 5, "widths": (4,) * 5, "fc": 6, "dropout": 0.5, "norm": "none", "deconv": "paper"}
    architecture = create(name, **{**options, "input_pad": 100, "fc6_pad": 0})
    batch = batch_of(41, 50)
    variables = jax.tree.map(np.array, perturbed(architecture.init(jax.random.key(0), batch)))
    outputs = jax.jit(architecture.model.apply)(variables, batch)
    model = architecture.model
    assert model.trunk.pad == 100
    image = normalize(batch["image"], batch["image_size"], (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = caffe_net(variables["params"], image, stride, 100)
    assert outputs["logits"].shape == expected.shape == (1, 41, 50, 4)
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(64, 64), (33, 47), (1, 70)])
def test_logits_have_the_images_size(name, size):
    architecture = create(name)
    batch = batch_of(*size)
    outputs = jax.eval_shape(lambda: architecture.model.init_with_output(jax.random.key(0), batch)[0])
    assert outputs["logits"].shape == (1, *size, 4)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_too_small_to_be_covered_is_a_clear_error(name):
    architecture = create(name, fc6_pad=0)
    with pytest.raises(
        ValueError, match=r"An image of 64x80 is too small .* enlarge it, or .* more input_pad or fc6_pad=3"
    ):
        architecture.init(jax.random.key(0), batch_of(64, 80))


# Pools


def test_pools_round_up_as_caffe_does():
    x = RNG.normal(size=(1, 45, 70, 3)).astype(np.float32)
    up, down = VGG((1,) * 5, (3,) * 5, ceil_mode=True), VGG((1,) * 5, (3,) * 5)
    variables = {"params": up.init(jax.random.key(0), x)["params"]}
    maps, floored = (jax.jit(vgg.apply)(variables, x) for vgg in (up, down))
    assert [maps[f"c{i}"].shape[1:3] for i in range(1, 6)] == [(23, 35), (12, 18), (6, 9), (3, 5), (2, 3)]
    assert [floored[f"c{i}"].shape[1:3] for i in range(1, 6)] == [(22, 35), (11, 17), (5, 8), (2, 4), (1, 2)]
    np.testing.assert_allclose(floored["c1"], maps["c1"][:, :22], atol=1e-6)
    # The last row has one row of the block's output beneath it, not two.
    first = variables["params"]["block1"]["conv0"]
    numbers = ("NHWC", "HWIO", "NHWC")
    rows = jax.lax.conv_general_dilated(x, first["kernel"], (1, 1), [(1, 1)] * 2, dimension_numbers=numbers)
    expected = np.maximum(rows[:, 44] + first["bias"], 0).reshape(1, 35, 2, 3).max(2)
    np.testing.assert_allclose(maps["c1"][:, 22], expected, atol=1e-5)


# Upsampling


@pytest.mark.parametrize("stride", [2, 8, 16, 32])
def test_fixed_upscore_is_a_transposed_convolution_with_the_bilinear_kernel(stride):
    x = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    fixed = Upscore(stride, learned=False)
    assert fixed.init(jax.random.key(0), x) == {}
    kernel = bilinear_kernel(2 * stride)[:, :, None, None] * np.eye(5, dtype=np.float32)
    expected = conv_transpose(x, kernel, stride, 0)
    np.testing.assert_allclose(fixed.apply({}, x), expected, atol=1e-5)
    np.testing.assert_allclose(expected, slow_conv_transpose(x, kernel, stride), atol=1e-5)
    learned = Upscore(stride, learned=True)
    variables = learned.init(jax.random.key(0), x)
    np.testing.assert_array_equal(variables["params"]["kernel"], kernel)
    np.testing.assert_allclose(learned.apply(variables, x), expected, atol=1e-5)


def upsampled(x, *strides):
    here = Geometry(32, 12.5)
    for stride in strides:
        upscore = Upscore(stride, False)
        x, here = np.array(upscore.apply({}, x)), upscore.geometry(here)
    return x, here


@pytest.mark.parametrize("strides", [(2, 16), (2, 2, 8)])
def test_skips_of_zero_leave_what_is_linear_as_it_was(strides):
    """Twice bilinear is not bilinear: between the samples of the first pass the second draws straight lines, and so cuts
    the corner at each coarse cell. Where the coarse scores are linear there is no corner, and 16s and 8s with skips of
    zero are 32s exactly; elsewhere they differ by at most a quarter of the change of slope, an axis."""
    y, x = np.mgrid[:6, :7].astype(np.float32)
    plane = (2 * y - 3 * x + 1)[None, :, :, None]
    rough = RNG.normal(size=(1, 6, 7, 1)).astype(np.float32)
    for scores, bound in ((plane, 1e-4), (rough, None)):
        one, one_at = upsampled(scores, 32)
        many, many_at = upsampled(scores, *strides)
        shift = int(one_at.start - many_at.start)  # at stride 1, pixels
        assert shift >= 0
        rows, columns = (np.arange(64, 32 * n - 64) for n in scores.shape[1:3])  # away from the zeros at the border
        difference = many[0][rows[:, None] + shift, columns + shift] - one[0][rows[:, None], columns]
        if bound is None:
            bends = [np.abs(np.diff(scores, 2, axis)).max() for axis in (1, 2)]
            bound = 1 / 4 * sum(bends)
            assert np.abs(difference).max() > 1e-2
        assert np.abs(difference).max() <= bound


@pytest.mark.parametrize("name", ["fcn16s", "fcn8s"])
def test_skips_change_nothing_before_they_are_trained(name):
    """The fc layers' scores reach the image whatever the skipped maps hold."""
    architecture = create(name, norm="none", deconv="paper")
    batch = batch_of(64, 64)
    variables = architecture.init(jax.random.key(0), batch)
    params = jax.tree.map(np.array, variables["params"])
    for skip in ("c4", "c3")[: 1 if name == "fcn16s" else 2]:
        for leaf in params[f"score_{skip}"].values():
            assert (leaf == 0).all()
    params["score"] = {
        "kernel": RNG.normal(size=params["score"]["kernel"].shape).astype(np.float32),
        "bias": np.ones(4),
    }
    apply = jax.jit(architecture.model.apply)
    logits = apply({"params": params}, batch)["logits"]
    other = {**params, "score_c4": {**params["score_c4"], "bias": np.ones(4, np.float32)}}
    assert np.std(logits) > 0
    assert np.abs(apply({"params": other}, batch)["logits"] - logits).max() > 0.1


@pytest.mark.parametrize(("name", "strides"), [("fcn16s", (2, 16)), ("fcn8s", (2, 2, 8))])
def test_a_finer_net_begins_as_the_coarser_one(name, strides):
    """16s and 8s that take over 32s's parameters have its scores, upsampled in steps rather than at once: exactly, and so
    nearly the same classes (the corners that the steps cut are those of the test above)."""
    options = dict(norm="none", input_pad=100, fc6_pad=0, fc=12)
    batch = batch_of(80, 96)
    coarse, fine = create("fcn32s", **options), create(name, **options, deconv="paper")
    variables = perturbed(coarse.init(jax.random.key(0), batch))
    fresh = fine.init(jax.random.key(1), batch)
    taken = {"params": {**fresh["params"], **variables["params"]}}
    assert set(taken["params"]) - set(variables["params"]) == {
        f"{layer}_{skip}" for layer in ("score", "upscore") for skip in ("c4", "c3")[: len(strides) - 1]
    }
    seen = {}

    def watch(function, arguments, keywords, context):
        if context.module.name == "upscore" and context.method_name == "__call__":
            seen["scores"] = arguments[0]
        return function(*arguments, **keywords)

    with nn.intercept_methods(watch):
        one = coarse.model.apply(variables, batch)["logits"]
    wanted, here = upsampled(np.array(seen["scores"]), *strides)
    crop = here.offset(Geometry())
    wanted = wanted[:, crop : crop + 80, crop : crop + 96]
    many = jax.jit(fine.model.apply)(taken, batch)["logits"]
    np.testing.assert_allclose(many, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert np.std(one) > 0.1 and len(np.unique(np.argmax(one, -1))) == 3
    assert (np.argmax(one, -1) == np.argmax(many, -1)).mean() > 0.9


# Other trunks


ALEXNET = dict(backbone="alexnet", widths=(4, 4, 6, 6, 8), fc=6)
GOOGLENET = dict(backbone="googlenet", width=0.02)


@pytest.mark.parametrize("options", [ALEXNET, GOOGLENET], ids=["alexnet", "googlenet"])
def test_other_trunks_have_every_stride(options):
    batch = batch_of(61, 75)
    for name in NAMES:
        architecture = architectures.create(name, num_classes=4, **options)
        variables = jax.eval_shape(architecture.init, jax.random.key(0), batch)
        assert ("fc6" in variables["params"]) == ("fc" in options)
        assert jax.eval_shape(architecture.model.apply, variables, batch)["logits"].shape == (1, 61, 75, 4)


def test_alexnets_crop_is_that_of_caffe():
    """fcn.berkeleyvision.org's FCN-AlexNet: fc6 of 6 x 6, an upsampling of kernel 63, a crop of 18."""
    scores = AlexNet(pad=100, ceil_mode=True).geometry()["pool5"].conv(6, 1, 0)
    assert scores == Geometry(32, 13)
    assert _aligned(32, scores, Geometry()) == 63
    assert Upscore(32, False, 63).geometry(scores).offset(Geometry()) == 18


@pytest.mark.parametrize(
    ("trunk", "names"), [(AlexNet((2,) * 5, pad=40), ("c2", "c5")), (GoogLeNet(0.01, "none", pad=40), ("c4",))]
)
def test_maps_lie_where_their_geometry_says(trunk, names):
    """The middle of the pixels that a cell sees is where its geometry puts it."""
    side = 400
    x = np.ones((1, side, 1, 3), np.float32)
    params = jax.jit(trunk.init)(jax.random.key(0), x)["params"]
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full(leaf.shape, 0.0 if path[-1].key == "bias" else 1 / np.prod(leaf.shape[:-1])), params
    )

    @functools.partial(jax.jit, static_argnums=(1, 2))
    @jax.grad
    def gradient(x, name, cell):
        return trunk.apply({"params": params}, x)[name][0, cell].sum()

    for name in names:
        cells = jax.eval_shape(trunk.apply, {"params": params}, x)[name].shape[1]
        cell = cells // 2
        seen = gradient(x, name, cell)
        rows = np.flatnonzero(np.array(seen).any((0, 2, 3)))
        assert rows[0] > 0 and rows[-1] < side - 1
        here = trunk.geometry()[name]
        assert (rows[0] + rows[-1]) / 2 == here.stride * cell + here.start


def test_at_once_scales_what_is_scored():
    batch = batch_of(64, 64)
    plain, at_once = create("fcn8s", norm="none"), create("fcn8s", norm="none", at_once=True)
    variables = perturbed(plain.init(jax.random.key(0), batch))
    params = dict(variables["params"])
    for skip, scale in (("c4", 0.01), ("c3", 0.0001)):
        score = params[f"score_{skip}"]
        params[f"score_{skip}"] = {**score, "kernel": score["kernel"] * np.float32(scale)}
    wanted = jax.jit(plain.model.apply)({"params": params}, batch)["logits"]
    found = jax.jit(at_once.model.apply)(variables, batch)["logits"]
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_a_classifiers_dense_layers_become_convolutions(monkeypatch):
    """What `config.init` takes from VGG's fc6 computes on an image of 224 what it computed there."""
    sizes = dict(depths=(1,) * 5, widths=(4,) * 5, fc=6)
    vgg = architectures.create("vgg", num_classes=3, dropout=0.0, **sizes)
    fcn = architectures.create("fcn32s", num_classes=4, input_pad=1, fc6_pad=3, **sizes)
    batch = batch_of(224, 224)
    classifier = perturbed(vgg.init(jax.random.key(0), batch))
    flat = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(classifier)}
    monkeypatch.setattr(init, "_load_flat", lambda origin: flat)
    variables = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(fcn.init, jax.random.key(0), batch)
    )
    variables, report = init.initialize(variables, (("^(trunk|fc6|fc7)/", "vgg"),))
    assert report["unused"] == ["vgg: params/head/bias", "vgg: params/head/kernel"]
    assert all("score" in path for path in report["fresh"])

    def seen(architecture, variables):
        found = {}

        def watch(function, arguments, keywords, context):
            result = function(*arguments, **keywords)
            found[context.module.name] = result
            return result

        with nn.intercept_methods(watch):
            architecture.model.apply(variables, batch)
        return found

    dense, convolution = seen(vgg, classifier), seen(fcn, variables)
    for name in ("fc6", "fc7"):
        assert convolution[name].shape == (1, 7, 7, 6)  # of which the middle sees all of the map, and no padding
        scale = np.abs(dense[name]).max()
        np.testing.assert_allclose(convolution[name][:, 3, 3], dense[name], rtol=0, atol=1e-5 * scale)


# Training


def test_dropout_needs_randomness_and_is_off_in_evaluation():
    architecture = create("fcn32s", dropout=0.5)
    batch = batch_of(64, 64)
    variables = perturbed(architecture.init(jax.random.key(0), batch))
    with pytest.raises(Exception, match="dropout"):
        architecture.model.apply(variables, batch, train=True)

    @jax.jit
    def logits(key):
        return architecture.model.apply(variables, batch, train=True, rngs={"dropout": key})["logits"]

    first, again, other = logits(jax.random.key(0)), logits(jax.random.key(0)), logits(jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_ignored_pixels_and_pixels_beyond_the_image_count_nowhere():
    architecture = create("fcn8s")
    logits = RNG.normal(size=(2, 8, 8, 4)).astype(np.float32)
    semantic = RNG.integers(0, 4, (2, 8, 8)).astype(np.int32)
    semantic[0, :3], semantic[1, :, 6:] = 255, 255
    total, count = architecture.losses({"logits": logits}, {"semantic": semantic})["pixel"]
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    kept = semantic != 255
    expected = -sum(log_probabilities[index][semantic[index]] for index in zip(*np.nonzero(kept)))
    assert count == kept.sum() == 5 * 8 + 8 * 6
    assert total == pytest.approx(expected, rel=1e-4)


def test_options_that_cannot_be_meant():
    with pytest.raises(ValueError, match='deconv \'bicubic\' is not one of "paper", "fixed", "learned"'):
        create("fcn8s", deconv="bicubic")
    with pytest.raises(ValueError, match=r"no option 'width_'; did you mean \"width\""):
        create("fcn8s", width_=(1,))
    with pytest.raises(ValueError, match="no trunk 'resnet50'; known: vgg11, vgg13, vgg16, vgg19, alexnet, googlenet"):
        architectures.create("fcn8s", num_classes=2, backbone="resnet50")
    for options, foreign in (
        (dict(width=0.5), "width"),
        (dict(backbone="alexnet", depths=(1,)), "depths"),
        (dict(backbone="alexnet", norm="batch"), "norm"),
        (dict(backbone="googlenet", fc=8, fc6_pad=1), "fc, fc6_pad"),
    ):
        with pytest.raises(ValueError, match=f"has no option {foreign}"):
            architectures.create("fcn32s", num_classes=2, **options)
    assert isinstance(create("fcn8s").model, FCN) and "deconv" in SMALL["fcn8s"]
