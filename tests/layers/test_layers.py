import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.layers.conv import Conv
from jaxvision.layers.fpn import FPN
from jaxvision.layers.geometry import Geometry
from jaxvision.layers.norm import Norm
from jaxvision.ops.resize import conv_transpose

RNG = np.random.default_rng(0)


def init_with_output(layer, x):
    return jax.jit(layer.init_with_output)(jax.random.key(0), x)


# Conv


def slow_conv(x, kernel, bias, stride, padding, dilation, groups):
    k = len(kernel)
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0))).astype(np.float64)
    reach = dilation * (k - 1) + 1
    height, width = ((n - reach) // stride + 1 for n in x.shape[1:3])
    inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
    out = np.zeros((len(x), height, width, kernel.shape[3])) + bias
    for i in range(height):
        for j in range(width):
            y0, x0 = i * stride, j * stride
            window = x[:, y0 : y0 + reach : dilation, x0 : x0 + reach : dilation]
            for g in range(groups):
                part = window[..., g * inputs : (g + 1) * inputs]
                own = slice(g * outputs, (g + 1) * outputs)
                out[:, i, j, own] += np.tensordot(part, kernel[..., own], ([1, 2, 3], [0, 1, 2]))
    return out


def test_dilated_convolution_is_torchs():
    with np.load(pathlib.Path(__file__).parents[1] / "golden" / "operators.npz") as golden:
        x, out = (golden[name].transpose(0, 2, 3, 1) for name in ("features", "atrous.rate3"))
        kernel = golden["atrous.kernel"].transpose(2, 3, 1, 0)
    found = Conv(4, 3, dilation=3, bias=False).apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(found, out, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": 1},
        {"kernel": 1, "stride": 2},
        {"kernel": 1, "stride": 2, "padding": 1},
        {"kernel": 1, "groups": 2},
        {"kernel": 3},
        {"kernel": 3, "stride": 2},
        {"kernel": 3, "padding": 0},
        {"kernel": 3, "padding": 5},
        {"kernel": 7, "stride": 2},
        {"kernel": 3, "dilation": 2},
        {"kernel": 3, "groups": 2, "bias": False},
        {"kernel": 3, "groups": 4, "features": 4},
        {"kernel": 5, "groups": 4, "features": 4, "stride": 2},
        {"kernel": 3, "groups": 4, "features": 4, "stride": 2, "dilation": 2, "padding": 3},
    ],
    ids=str,
)
def test_conv_counts_its_padding_as_torch_does(options):
    x = RNG.normal(size=(2, 8, 9, 4)).astype(np.float32)  # one side even, one odd
    layer = Conv(**{"features": 6, "bias_init": jax.nn.initializers.normal(), **options})
    out, variables = init_with_output(layer, x)
    params = variables["params"]
    k, dilation, groups = options["kernel"], options.get("dilation", 1), options.get("groups", 1)
    assert params["kernel"].shape == (k, k, 4 // groups, layer.features)
    assert ("bias" in params) == options.get("bias", True)
    padding = options.get("padding", dilation * (k - 1) // 2)
    expected = slow_conv(
        x,
        np.array(params["kernel"]),
        np.array(params.get("bias", 0)),
        options.get("stride", 1),
        padding,
        dilation,
        groups,
    )
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_conv_computes_in_its_dtype_and_keeps_its_parameters_in_float32():
    x = jnp.ones((1, 4, 4, 3))
    for kernel in (1, 3):
        layer = Conv(2, kernel, dtype=jnp.bfloat16)
        out, variables = jax.eval_shape(lambda layer=layer: layer.init_with_output(jax.random.key(0), x))
        assert out.dtype == jnp.bfloat16
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


# Norm


@pytest.fixture
def maps():
    return (RNG.normal(size=(4, 5, 6, 8)) * np.arange(1, 9) + np.arange(8)).astype(np.float32)


def test_batch_norm_takes_the_batchs_statistics_in_training_and_the_running_ones_otherwise(maps):
    layer = Norm("batch")
    variables = layer.init(jax.random.key(0), maps)
    mean, variance = maps.mean((0, 1, 2)), maps.var((0, 1, 2))
    out, updates = layer.apply(variables, maps, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(out, (maps - mean) / np.sqrt(variance + 1e-5), atol=1e-4)
    running = updates["batch_stats"]["norm"]
    np.testing.assert_allclose(running["mean"], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(running["var"], 0.9 + 0.1 * variance, rtol=1e-4)
    out = layer.apply({**variables, **updates}, maps)
    np.testing.assert_allclose(out, (maps - 0.1 * mean) / np.sqrt(0.9 + 0.1 * variance + 1e-5), atol=1e-4)


def test_frozen_norm_heeds_no_statistics_of_the_batch(maps):
    layer = Norm("frozen")
    variables = layer.init(jax.random.key(0), maps)
    stats = {"norm": {"mean": np.arange(8.0), "var": np.arange(1.0, 9.0)}}
    params = {"norm": {"scale": np.full(8, 2.0), "bias": np.full(8, 3.0)}}
    assert jax.tree.structure({"params": params, "batch_stats": stats}) == jax.tree.structure(variables)
    apply = functools.partial(layer.apply, {"params": params, "batch_stats": stats}, mutable=["batch_stats"])
    out, updates = apply(maps, train=True)
    expected = 2 * (maps - np.arange(8)) / np.sqrt(np.arange(1, 9) + 1e-5) + 3
    np.testing.assert_allclose(out, expected, atol=1e-4)
    for old, new in zip(jax.tree.leaves(stats), jax.tree.leaves(updates["batch_stats"])):
        np.testing.assert_array_equal(new, old)
    np.testing.assert_array_equal(apply(maps[:1], train=True)[0], out[:1])


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (8, 8), (48, 24), (34, 17)])
def test_group_norm_takes_thirty_two_groups_or_as_many_as_divide(channels, groups):
    x = RNG.normal(size=(2, 3, 4, channels)).astype(np.float32)
    out, _ = init_with_output(Norm("group"), x)
    grouped = x.reshape(2, 12, groups, -1).transpose(0, 2, 1, 3).reshape(2, groups, -1)
    expected = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 1e-5)
    expected = expected.reshape(2, groups, 12, -1).transpose(0, 2, 1, 3).reshape(x.shape)
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_no_norm_has_no_variables(maps):
    layer = Norm("none")
    assert layer.init(jax.random.key(0), maps) == {}
    assert layer.apply({}, maps, train=True) is maps


def test_an_unknown_norm_is_an_error(maps):
    with pytest.raises(ValueError, match="norm 'layer' is not one of batch, frozen, group, none"):
        Norm("layer").init(jax.random.key(0), maps)


def test_statistics_are_float32_where_the_maps_are_not(maps):
    """A mean of 1000 swallows a deviation of 1 in bfloat16, whose steps are 4 there."""
    layer = Norm("batch", dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), maps)
    out, updates = layer.apply(variables, maps + 1000, train=True, mutable=["batch_stats"])
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(updates["batch_stats"]["norm"]["mean"], 0.1 * (maps + 1000).mean((0, 1, 2)), rtol=1e-5)


# FPN


def test_fpn_adds_the_nearest_cell_from_above():
    canvas = (64, 96)
    maps = {
        f"c{level}": RNG.normal(size=(2, canvas[0] >> level, canvas[1] >> level, level)).astype(np.float32)
        for level in range(2, 6)
    }
    pyramid, variables = init_with_output(FPN(features=3), maps)
    params = jax.tree.map(np.array, variables["params"])
    assert list(pyramid) == ["p2", "p3", "p4", "p5", "p6"]
    above = None
    for level in (5, 4, 3, 2):
        lateral, output = params[f"lateral_c{level}"], params[f"output_c{level}"]
        x = maps[f"c{level}"] @ lateral["kernel"][0, 0] + lateral["bias"]
        if above is not None:
            x = x + above.repeat(2, 1).repeat(2, 2)
        above = x
        expected = slow_conv(x, output["kernel"], output["bias"], 1, 1, 1, 1)
        np.testing.assert_allclose(pyramid[f"p{level}"], expected, atol=1e-4)
    np.testing.assert_array_equal(pyramid["p6"], pyramid["p5"][:, ::2, ::2])


def test_fpn_fits_maps_of_odd_sizes():
    maps = {
        f"c{level}": np.ones((1, size, size + 1, 2), np.float32) for level, size in zip(range(2, 6), (25, 13, 7, 4))
    }
    pyramid, _ = jax.eval_shape(lambda: FPN(features=2).init_with_output(jax.random.key(0), maps))
    assert [x.shape[1:3] for x in pyramid.values()] == [(25, 26), (13, 14), (7, 8), (4, 5), (2, 3)]


# Geometry


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(1, 3), st.integers(0, 3), st.sampled_from([1, 2, 8]), st.sampled_from([0, -3.5]))
def test_geometry_of_a_convolution_is_where_its_mean_lies(kernel, stride, padding, before_stride, before_start):
    """The mean of a window of positions is its centre."""
    before = Geometry(before_stride, before_start)
    after = before.conv(kernel, stride, padding)
    positions = before_stride * (np.arange(40.0) - padding) + before_start  # as if the line went on in the padding
    for cell in range(5):
        window = positions[cell * stride : cell * stride + kernel]
        assert after.stride * cell + after.start == pytest.approx(window.mean())


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 0), (16, 8, 0), (64, 32, 0), (4, 2, 1), (3, 1, 0)])
def test_geometry_of_a_transposed_convolution_is_where_an_impulse_lands(kernel, stride, padding):
    before = Geometry(32, 12.5)
    after = before.conv_transpose(kernel, stride, padding)
    for cell in (2, 3):
        impulse = np.zeros((1, 6, 1, 1), np.float32)
        impulse[0, cell] = 1
        column = np.array(conv_transpose(impulse, jnp.ones((kernel, kernel, 1, 1)), stride, padding))[0].sum((1, 2))
        centre = (column * np.arange(len(column))).sum() / column.sum()
        assert after.stride * centre + after.start == pytest.approx(before.stride * cell + before.start)


def test_offset_counts_cells_and_refuses_maps_that_do_not_align():
    assert Geometry(16, -91.5).offset(Geometry(16, -11.5)) == 5
    assert Geometry(16, -11.5).offset(Geometry(16, -91.5)) == -5
    for other in (Geometry(16, -11), Geometry(8, -11.5)):
        with pytest.raises(ValueError, match="do not align"):
            Geometry(16, -91.5).offset(other)
