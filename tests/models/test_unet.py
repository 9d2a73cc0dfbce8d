import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import Network, create, example, kept_and_dropped

from jaxvision.models.segmentation.unet import input_side
from jaxvision.ops.images import mirror, normalize

RNG = np.random.default_rng(0)


def batch_of(*size, canvas=None):
    image = np.zeros((1, *(canvas or size), 3), np.uint8)
    image[:, : size[0], : size[1]] = np.random.default_rng(sum(size)).integers(0, 256, (1, *size, 3))
    return {"image": image, "image_size": np.array([size], np.int32)}


def test_of_572_pixels_come_388():
    """The paper's figure 1; the tile of 388 has 92 pixels of context on every side."""
    assert input_side(388, 4, valid=True) == (572, 92)
    for side in range(1, 200):
        given, before = input_side(side, 4, valid=True)
        cells = given
        for _ in range(4):
            assert cells % 2 == 0
            cells = (cells - 4) // 2
            assert cells > 4
        for _ in range(4):
            cells = (cells - 4) * 2
        assert 0 <= cells - 4 - side < 16 and before == (given - cells + 4) // 2 == 92
    assert input_side(100, 4, valid=False) == (112, 0)


def test_the_mirror_is_numpys_at_the_pictures_own_border():
    images = RNG.normal(size=(2, 9, 7, 3)).astype(np.float32)
    sizes = np.array([[9, 7], [4, 1]])
    found = jax.jit(mirror, static_argnums=(2, 3))(images, sizes, (12, 5), (40, 30))
    for image, (height, width), out in zip(images, sizes, found):
        pads = ((12, 40 - 12 - height), (5, 30 - 5 - width), (0, 0))
        np.testing.assert_array_equal(out, np.pad(image[:height, :width], pads, mode="reflect"))


def slow_unet(params, image, levels):
    """The valid network on one mirrored image, layer by layer."""
    numbers = ("NHWC", "HWIO", "NHWC")

    def pair(x, p):
        for name in ("conv0", "conv1"):
            x = jax.lax.conv_general_dilated(x, p[name]["kernel"], (1, 1), "VALID", dimension_numbers=numbers)
            x = jnp.maximum(x + p[name]["bias"], 0)
        return x

    height, width = image.shape[1:3]
    pads = [
        (n[1], n[0] - n[1] - side)
        for n, side in zip((input_side(s, levels - 1, True) for s in (height, width)), (height, width))
    ]
    x, skips = np.pad(image, ((0, 0), *pads, (0, 0)), mode="reflect"), []
    for level in range(1, levels + 1):
        x = pair(x, params["trunk"][f"level{level}"])
        skips.append(x)
        if level < levels:
            x = x.reshape(1, x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max((2, 4))
    for level in range(levels - 1, 0, -1):
        p = params[f"enlarge{level}"]
        y = np.zeros((1, 2 * x.shape[1], 2 * x.shape[2], p["kernel"].shape[2]), np.float32)
        for i in range(2):
            for j in range(2):
                y[:, i::2, j::2] = x @ p["kernel"][i, j].T
        y = np.maximum(y + p["bias"], 0)
        skip = skips[level - 1]
        top, left = ((n - m) // 2 for n, m in zip(skip.shape[1:3], y.shape[1:3]))
        x = pair(
            np.concatenate([skip[:, top : top + y.shape[1], left : left + y.shape[2]], y], -1), params[f"level{level}"]
        )
    logits = x @ params["logits"]["kernel"][0, 0] + params["logits"]["bias"]
    return logits[:, :height, :width]


def test_valid_network_is_the_slow_one():
    network = create("unet", widths=(4, 6, 8), norm="none")
    batch = batch_of(21, 34)
    variables = network.init(jax.random.key(0), batch)
    outputs = jax.jit(network.model.apply)(variables, batch)
    x = np.asarray(normalize(batch["image"], None, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    wanted = slow_unet(jax.device_get(variables["params"]), x, 3)
    np.testing.assert_allclose(outputs["logits"], wanted, atol=1e-4 * np.abs(wanted).max())
    assert outputs["u1"].shape[1] > 21 and outputs["c3"].shape[-1] == 8


def test_a_picture_is_predicted_the_same_on_every_canvas():
    """It is mirrored at its own border, and no convolution is padded."""
    network = create("unet", widths=(4, 6, 8))
    small, large = batch_of(30, 25), batch_of(30, 25, canvas=(64, 48))
    variables = network.init(jax.random.key(0), small)
    apply = jax.jit(network.model.apply)
    alone, within = (apply(variables, batch)["logits"] for batch in (small, large))
    np.testing.assert_allclose(within[:, :30, :25], alone, atol=1e-5)


def test_the_variant_of_the_same_size():
    network = create("unet", padding="same", widths=(4, 6, 8))
    batch = batch_of(21, 34)
    outputs = network.model.apply(network.init(jax.random.key(0), batch), batch)
    assert outputs["logits"].shape == (1, 21, 34, 4) and outputs["c1"].shape[1:3] == (24, 36)
    assert outputs["c3"].shape[1:3] == (6, 9)
    with pytest.raises(ValueError, match='"valid" or "same"'):
        create("unet", padding="full")


def test_dropout_is_behind_the_two_lowest_levels():
    network = Network("unet", dropout=0.5, norm="none")
    kept, dropped = kept_and_dropped(network.architecture, network.variables, network.batch([example(1)]))
    for name in ("c1", "c2", "c3"):
        np.testing.assert_array_equal(kept[name], dropped[name])
    for name in ("c4", "c5"):
        zeroed = (dropped[name] == 0) & (kept[name] > 0)
        assert 0.3 < zeroed.sum() / (kept[name] > 0).sum() < 0.95, name
