import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, create

from jaxvision.layers.geometry import Geometry
from jaxvision.models.backbones.vgg import VGG
from jaxvision.models.segmentation.fcn import FCN, Upscore
from jaxvision.ops.images import normalize
from jaxvision.ops.resize import bilinear_kernel, conv_transpose

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
    with pytest.raises(ValueError, match=r"An image of 64x80 is too small .* raise input_pad, or set fc6_pad=3"):
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
    with pytest.raises(ValueError, match=r"no option 'width'; did you mean \"widths\""):
        create("fcn8s", width=(1,))
    assert isinstance(create("fcn8s").model, FCN) and "deconv" in SMALL["fcn8s"]
