import jax
import numpy as np
import pytest
from flax import linen as nn
from small import SIDE, batch_of, create, example, shapes

from jaxvision.models.backbones.vgg import VGG
from jaxvision.ops.pool import max_pool

RNG = np.random.default_rng(0)


def test_a_trunk_with_switches_gives_the_same_maps():
    x = RNG.normal(size=(1, 37, 44, 3)).astype(np.float32)
    plain = VGG((1, 1, 1), (4, 6, 8))
    variables = {"params": jax.jit(plain.init)(jax.random.key(0), x)["params"]}
    switched = VGG((1, 1, 1), (4, 6, 8), switches=True)
    maps, found = jax.jit(plain.apply)(variables, x), jax.jit(switched.apply)(variables, x)
    assert set(found) == set(maps) | {"s1", "s2", "s3"}
    for name, value in maps.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[f"s{name[1:]}"].shape == value.shape


def test_values_go_back_to_where_they_were_the_maxima():
    """Behind the last unpooling one pixel of each window is not zero: that of the maximum on the way down."""
    architecture = create("deconvnet", depths=(1, 1), widths=(4, 6), fc6_kernel=1)
    batch = batch_of([example(0)], "segmentation")
    variables = architecture.init(jax.random.key(0), batch)
    seen = {}

    def watch(next_function, arguments, keywords, context):
        result = next_function(*arguments, **keywords)
        name = "/".join(context.module.path)
        if name == "trunk/block1" or name == "deconv1":
            seen[name] = result if name == "trunk/block1" else arguments[0]
        return result

    with nn.intercept_methods(watch):
        outputs = architecture.model.apply(variables, batch)
    before, unpooled = np.array(seen["trunk/block1"]), np.array(seen["deconv1"])
    assert unpooled.shape == (1, SIDE, SIDE, 4) and outputs["u1"].shape[:3] == (1, SIDE, SIDE)
    np.testing.assert_array_equal(max_pool(before, 2), outputs["c1"])
    windows = unpooled.reshape(1, SIDE // 2, 2, SIDE // 2, 2, 4)
    assert ((windows != 0).sum((2, 4)) <= 1).all() and (unpooled != 0).any()
    for b, y, x, c in zip(*np.nonzero(unpooled)):
        corner = before[b, y // 2 * 2 : y // 2 * 2 + 2, x // 2 * 2 : x // 2 * 2 + 2, c]
        assert before[b, y, x, c] == corner.max()


def test_the_way_up_mirrors_the_way_down():
    params = shapes("deconvnet", num_classes=21, canvas=(224, 224))["params"]
    assert params["fc6_deconv"]["kernel"].shape == (7, 7, 512, 4096)
    widths = {
        stage: [params[f"deconv{stage}"][f"conv{i}"]["kernel"].shape[-1] for i in range(depth)]
        for stage, depth in zip((5, 4, 3, 2, 1), (3, 3, 3, 2, 2))
    }
    assert widths == {5: [512] * 3, 4: [512, 512, 256], 3: [256, 256, 128], 2: [128, 64], 1: [64, 64]}


def test_pictures_too_small_for_fc6_are_an_error():
    with pytest.raises(ValueError, match=r"Images of 200x256 are too small for this network.* 224 pixels"):
        shapes("deconvnet", num_classes=3, canvas=(200, 256))
