import functools

import jax
import numpy as np
import pytest
from small import shapes
from test_parameter_counts import size

from jaxvision.models.backbones.mobilenet_v3 import LARGE, SMALL, divisible, scale, trunk


@functools.cache
def maps_of(name, side=64, **options):
    x = np.zeros((1, side, side, 3), np.float32)
    maps, _ = jax.eval_shape(lambda: trunk(name, **options).init_with_output(jax.random.key(0), x))
    return {level: leaf.shape[1:] for level, leaf in maps.items()}


@pytest.mark.parametrize(("name", "count"), [("mobilenet_v3_large", 5_483_032), ("mobilenet_v3_small", 2_542_856)])
def test_parameters_are_torchvisions(name, count):
    assert size(shapes("mobilenet_v3", num_classes=1000, trunk_name=name)["params"]) == count


def test_maps_and_their_strides():
    assert maps_of("mobilenet_v3_large", 320) == {
        "c1": (160, 160, 16),
        "c2": (80, 80, 24),
        "c3": (40, 40, 40),
        "c4": (20, 20, 80),
        "c4_expanded": (20, 20, 672),
        "c5": (10, 10, 160),
        "final": (10, 10, 960),
    }
    assert maps_of("mobilenet_v3_small") == {
        "c1": (32, 32, 16),
        "c2": (16, 16, 16),
        "c3": (8, 8, 24),
        "c4": (4, 4, 40),
        "c4_expanded": (4, 4, 288),
        "c5": (2, 2, 96),
        "final": (2, 2, 576),
    }


def test_ssdlites_trunk_has_half_the_channels_behind_its_first_map():
    maps = maps_of("mobilenet_v3_large", 320, reduce_tail=True)
    assert maps["c4_expanded"] == (20, 20, 672) and maps["c5"] == (10, 10, 80) and maps["final"] == (10, 10, 480)


def test_a_dilated_tail_keeps_its_size():
    maps = maps_of("mobilenet_v3_large", dilated=True)
    assert maps["c4"][0] == maps["c5"][0] == maps["final"][0] == 4


def test_a_stem_of_stride_1_doubles_every_map():
    usual, finer = maps_of("mobilenet_v3_small"), maps_of("mobilenet_v3_small", stem_stride=1)
    assert finer == {level: (2 * height, 2 * width, channels) for level, (height, width, channels) in usual.items()}


def test_channels_are_the_nearest_multiples_of_8():
    assert [divisible(n) for n in (1, 8, 11.9, 12, 18, 20, 30, 84)] == [8, 8, 16, 16, 24, 24, 32, 88]
    assert all(n % 8 == 0 and n >= 0.9 * row.out / 3 for row in LARGE for n in [divisible(row.out / 3)])
    assert scale(SMALL, 1.0, False) == list(SMALL)


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="no trunk 'mobilenet_v2'; known: mobilenet_v3_large, mobilenet_v3_small"):
        trunk("mobilenet_v2")


def test_remat_and_bfloat16_change_no_variable():
    def trace(**options):
        model = trunk("mobilenet_v3_small", width=0.25, **options)
        x = np.zeros((1, 32, 32, 3), np.float32)

        def gradient(key):
            variables = model.init(key, x)

            def loss(params):
                maps, _ = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
                assert maps["final"].dtype == options.get("dtype", np.float32)
                return maps["final"].sum().astype(np.float32)

            return variables, jax.grad(loss)(variables["params"])

        variables, gradients = jax.eval_shape(gradient, jax.random.key(0))
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (variables["params"], gradients))

    assert trace() == trace(remat=True) == trace(dtype=jax.numpy.bfloat16)
