import jax
import numpy as np
import pytest
from small import batch_of, create, example, shapes

from jaxvision.models.backbones.zfnet import ZFNet
from jaxvision.ops.response_norm import local_response_norm


def test_maps_are_those_of_the_papers_figure():
    """Figure 3: 110, 26, 13, 13, 13 cells, and 6 x 6 x 256 to the dense layers."""
    x = np.zeros((1, 224, 224, 3), np.float32)
    maps, _ = jax.eval_shape(lambda: ZFNet().init_with_output(jax.random.key(0), x))
    sides = {"c1": 110, "c2": 26, "c3": 13, "c4": 13, "c5": 13, "pool5": 6}
    widths = {"c1": 96, "c2": 256, "c3": 384, "c4": 384, "c5": 256, "pool5": 256}
    assert {k: v.shape[1:] for k, v in maps.items()} == {k: (sides[k], sides[k], widths[k]) for k in sides}


def test_it_has_the_published_layers_size():
    layers = [(49, 3, 96), (25, 96, 256), (9, 256, 384), (9, 384, 384), (9, 384, 256)]
    layers += [(1, 36 * 256, 4096), (1, 4096, 4096), (1, 4096, 1000)]
    params = shapes("zfnet", canvas=(224, 224), num_classes=1000)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(k * i * o + o for k, i, o in layers) == 62_357_608


def test_contrast_is_normalised_behind_the_first_two_pools():
    batch = batch_of([example(0)], "classification")
    with_contrast, without = create("zfnet"), create("zfnet", contrast=False)
    variables = with_contrast.init(jax.random.key(0), batch)
    found, plain = (a.model.apply(variables, batch) for a in (with_contrast, without))
    np.testing.assert_array_equal(found["c1"], plain["c1"])
    # The first pool's maxima, normalised, are what the second convolution sees.
    x = np.array(found["c1"])
    rows = [x[:, 2 * i : 2 * i + 3].max(1) for i in range(15)]
    pooled = np.stack([np.stack(rows, 1)[:, :, 2 * j : 2 * j + 3].max(2) for j in range(15)], 2)
    seen = np.array(local_response_norm(pooled))
    kernel, bias = (np.array(variables["params"]["trunk"]["conv2"][name]) for name in ("kernel", "bias"))
    cell = np.maximum((seen[0, 2:7, 4:9, :, None] * kernel).sum((0, 1, 2)) + bias, 0)
    np.testing.assert_allclose(found["c2"][0, 1, 2], cell, rtol=1e-4, atol=1e-5)
    assert not np.allclose(found["c2"], plain["c2"], rtol=1e-2)


def test_images_too_small_are_named():
    def image(side):
        return {"image": np.zeros((1, side, side, 3), np.uint8), "image_size": np.array([[side, side]], np.int32)}

    architecture = create("zfnet")
    assert jax.eval_shape(architecture.init, jax.random.key(0), image(47))["params"]["fc6"]["kernel"].shape == (576, 16)
    with pytest.raises(ValueError, match=r"Images of 46x46 are too small .* smallest side has 47 pixels"):
        jax.eval_shape(architecture.init, jax.random.key(0), image(46))
