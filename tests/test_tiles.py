"""Segmenters that see an image piece by piece, on networks whose answers are known."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxvision import TTA, Predictor, Tiles, preprocess
from jaxvision.architecture import Architecture
from jaxvision.models.segmentation.objective import segmentation_losses, segmentation_predict
from jaxvision.predictor import resize_maps

RNG = np.random.default_rng(0)


class Network(nn.Module):
    score: Callable  # of a batch: the logits

    def __call__(self, batch, train=False):
        image = batch["image"]
        scale = 255 if image.dtype == jnp.uint8 else 1
        return {"logits": self.score(image.astype(jnp.float32) / scale)}


def predictor(score, **options):
    network = Architecture("stub", Network(score), segmentation_losses, segmentation_predict, "segmentation")
    return Predictor(network, {}, **options)


def by_colour(x):
    """Scores of each pixel for itself."""
    return x @ np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32) * 4


def by_place(x):
    """Scores that a mirror or a shift changes: of colours and of where in the canvas the pixel lies."""
    y, z = jnp.meshgrid(jnp.arange(x.shape[1]) / 20, jnp.arange(x.shape[2]) / 10, indexing="ij")
    return by_colour(x) + jnp.stack([y, z, -y, -z, y * z], -1)


def noise(*size):
    return RNG.integers(0, 256, (*size, 3)).astype(np.uint8)


def starts(side, tile, stride):
    """Where windows begin, one by one."""
    found = [0]
    while found[-1] + tile < side:
        found.append(min(found[-1] + stride, side - tile))
    return found


def slow_resized(maps, size):
    """Bilinear by pixel centres, a pixel at a time."""
    out = np.zeros((*size, maps.shape[2]))
    for i, j in np.ndindex(*size):
        y, x = (min(max((p + 0.5) * old / new - 0.5, 0), old - 1) for p, old, new in zip((i, j), maps.shape, size))
        top, left = int(y), int(x)
        below, right = min(top + 1, maps.shape[0] - 1), min(left + 1, maps.shape[1] - 1)
        upper = maps[top, left] * (left + 1 - x) + maps[top, right] * (x - left)
        lower = maps[below, left] * (left + 1 - x) + maps[below, right] * (x - left)
        out[i, j] = upper * (top + 1 - y) + lower * (y - top)
    return out


def slow_probabilities(score, image, tile, stride):
    """The mean over windows, each counted pixel by pixel."""
    height, width = image.shape[:2]
    total, count = 0, np.zeros((height, width, 1))
    for top in starts(height, tile[0], stride[0]):
        for left in starts(width, tile[1], stride[1]):
            inside = image[top : top + tile[0], left : left + tile[1]]
            h, w = inside.shape[:2]
            canvas = np.zeros((1, *tile, 3), np.float32)
            canvas[0, :h, :w] = inside / 255 if image.dtype == np.uint8 else inside
            logits = np.asarray(score(canvas), np.float64)[0]
            p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
            if not np.ndim(total):
                total = np.zeros((height, width, p.shape[-1]))
            total[top : top + h, left : left + w] += p[:h, :w]
            count[top : top + h, left : left + w] += 1
    return total / count


@pytest.mark.parametrize(
    ("size", "tiles", "expected"),
    [
        ((10, 7), Tiles((4, 4), 0.5), ([0, 2, 4, 6], [0, 2, 3])),
        ((10, 8), Tiles((4, 4), 0), ([0, 4, 6], [0, 4])),
        ((9, 3), Tiles((6, 4), 2 / 3), ([0, 2, 3], [0])),
        ((5, 5), Tiles((2, 2), 0.9), ([0, 1, 2, 3], [0, 1, 2, 3])),
        ((3, 2), Tiles((8, 8)), ([0], [0])),
    ],
    ids=str,
)
def test_windows_cover_the_image_and_the_last_ends_with_it(size, tiles, expected):
    windows = list(tiles.windows(size))
    assert [(y.start, x.start) for y, x, _ in windows] == [(y, x) for y in expected[0] for x in expected[1]]
    seen, weights = np.zeros((2, *size, 1))
    for y, x, weight in windows:
        assert (y.stop - y.start, x.stop - x.start) == tiles.size and weight.dtype == np.float32
        seen[y, x] += 1
        weights[y, x] += weight
    assert seen.min() == 1 or tiles.overlap > 0
    np.testing.assert_allclose(weights, 1, rtol=1e-6)


def test_pixels_scored_for_themselves_do_not_see_the_tiles():
    images = [noise(*size) for size in [(40, 50), (16, 16), (7, 60), (16, 33), (3, 5), (100, 41)]]
    tiled = predictor(by_colour, tiles=Tiles((16, 16), 0.25), batch_size=3)
    for result, whole in zip(tiled(images), predictor(by_colour)(images)):
        assert result["semantic"].dtype == np.int32
        np.testing.assert_array_equal(result["semantic"], whole["semantic"])
    assert tiled._maps._cache_size() == 1  # whatever the sizes


def test_what_lies_within_the_tiles_is_seen_as_in_the_whole():
    """A network of 5 x 5 pixels: where no inner edge of a tile is within two pixels."""

    def around(x):
        padded = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        return by_colour(sum(padded[:, i : i + x.shape[1], j : j + x.shape[2]] for i in range(5) for j in range(5)) / 5)

    image, tile, stride = noise(50, 70), 24, 16
    tiled, whole = predictor(around, tiles=Tiles((tile, tile), 1 / 3)), predictor(around, resize={}, canvas=(50, 70))
    [result], [expected] = tiled([image]), whole([image])
    within = []
    for side in image.shape[:2]:
        touched = np.zeros(side, bool)
        for start in starts(side, tile, stride):
            touched[start : start + 2] |= start > 0
            touched[start + tile - 2 : start + tile] |= start + tile < side
        within.append(~touched)
    within = within[0][:, None] & within[1]
    assert 0.4 < within.mean() < 0.9
    np.testing.assert_array_equal(result["semantic"][within], expected["semantic"][within])
    assert (result["semantic"] != expected["semantic"])[~within].any()


@pytest.mark.parametrize("size", [(30, 45), (9, 50), (10, 7)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_tiles_are_the_mean_of_every_window(size, dtype):
    image = noise(*size) if dtype == np.uint8 else (noise(*size) / 255).astype(dtype)
    [result] = predictor(by_place, tiles=Tiles((12, 20), 0.5), batch_size=4)([image])
    expected = slow_probabilities(by_place, image, (12, 20), (6, 10))
    assert (result["semantic"] == expected.argmax(-1)).mean() > 0.998
    assert len(np.unique(result["semantic"])) > 2


def test_tiles_flips_and_scales_together():
    image, size = (noise(24, 32) / 255).astype(np.float32), (24, 32)
    views = TTA(scales=(1, 1.5))
    [result] = predictor(by_place, tiles=Tiles((12, 20), 0.5), tta=views, batch_size=2)([image])
    expected = 0
    for scale in views.scales:
        scaled = slow_resized(image, tuple(round(side * scale) for side in size))
        for turn in (1, -1):
            seen = slow_probabilities(by_place, scaled[:, ::turn], (12, 20), (6, 10))
            expected = expected + slow_resized(seen[:, ::turn], size)
    assert (result["semantic"] == expected.argmax(-1)).mean() > 0.998
    [one] = predictor(by_place, tiles=Tiles((12, 20), 0.5))([image])
    assert (result["semantic"] != one["semantic"]).mean() > 0.05


def test_views_come_back_to_the_images_own_size_bilinearly():
    image = noise(16, 24)
    [result] = predictor(by_colour, tta=TTA(), resize={"resize": 4})([image])
    small = preprocess.resized(image, (4, 6), {"resize": 4})
    expected = slow_resized(slow_probabilities(by_colour, small, (4, 6), (4, 6)), (16, 24)).argmax(-1)
    assert (result["semantic"] == expected).mean() > 0.995
    nearest = np.asarray(by_colour(small / 255)).argmax(-1).repeat(4, 0).repeat(4, 1)
    assert (result["semantic"] != nearest).mean() > 0.1


@pytest.mark.parametrize(
    ("said", "expected"),  # the probabilities of two views
    [
        (([0.6, 0.4, 1e-9], [0.02, 0.38, 0.6]), 1),  # no view's class
        (([0.9, 0.1, 1e-9], [1e-9, 0.38, 0.62]), 0),  # the sum of their scores is greatest at 1
    ],
    ids=["not classes", "not scores"],
)
def test_probabilities_are_averaged(said, expected):
    def by_width(x):
        return jnp.broadcast_to(jnp.log(jnp.array(said[x.shape[2] > 8])), (*x.shape[:3], 3))

    assert np.log(said).sum(0).argmax() == 1 and np.mean(said, 0).argmax() == expected
    [result] = predictor(by_width, resize={"resize": 8}, tta=TTA(flip=False, scales=(1, 2)))([noise(8, 8)])
    assert (result["semantic"] == expected).all()


def test_a_network_that_always_says_the_same_averages_to_itself():
    def constant(x):
        return jnp.broadcast_to(jnp.array([0.1, 0.3, 0.2]), (*x.shape[:3], 3))

    options = {"tiles": Tiles((8, 8), 0.7), "tta": TTA(scales=(0.5, 1, 2))}
    for result in predictor(constant, **options)([noise(20, 31), noise(2, 3)]):
        assert (result["semantic"] == 1).all()


def test_a_mirrored_view_is_turned_back():
    image = noise(24, 30)
    for options in ({}, {"tiles": Tiles((16, 16), 0.5)}):
        [plain] = predictor(by_colour, **options)([image])
        [flipped] = predictor(by_colour, tta=TTA(flip=True), **options)([image])
        np.testing.assert_array_equal(plain["semantic"], flipped["semantic"])
    assert (plain["semantic"] != plain["semantic"][:, ::-1]).any()


def test_images_in_batches_are_the_same_as_alone():
    images = [noise(*size) for size in [(20, 30), (20, 30), (12, 12)]]
    for options in ({"tta": TTA(scales=(1, 0.7))}, {"tiles": Tiles((12, 12))}):
        alone = [predictor(by_place, **options)([image])[0] for image in images]
        for one, other in zip(alone, predictor(by_place, batch_size=5, **options)(images)):
            np.testing.assert_array_equal(one["semantic"], other["semantic"])


@pytest.mark.parametrize("classes", [1, 3, 64, 65, 150])
def test_maps_of_any_number_of_classes_are_resized(classes):
    maps = RNG.random((5, 7, classes), np.float32)
    for size in ((9, 4), (5, 7)):
        np.testing.assert_allclose(resize_maps(maps, size), slow_resized(maps, size), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 64}, r"The size of tiles is \(height, width\)"),
        ({"size": (64, 0)}, "at least 1"),
        ({"size": (64, 32.5)}, "whole pixels"),
        ({"size": (64, 64), "overlap": 1}, "from 0 to below 1, got 1"),
        ({"size": (64, 64), "overlap": -0.1}, "from 0 to below 1, got -0.1"),
        ({"size": (64, 64), "overlap": 16}, "from 0 to below 1, got 16"),
        ({"size": (64, 64), "overlap": float("nan")}, "from 0 to below 1, got nan"),
    ],
    ids=str,
)
def test_tiles_that_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        Tiles(**options)


def test_predictors_that_cannot_be_meant():
    with pytest.raises(ValueError, match="A tile is the canvas: leave canvas out, or tiles"):
        predictor(by_colour, tiles=Tiles((8, 8)), canvas=(16, 16))
    with pytest.raises(ValueError, match="sees images of one size; leave tiles out"):
        predictor(by_colour, tiles=Tiles((8, 8)), resize={"stretch": (16, 16)})
    detector = Architecture("stub", Network(by_colour), lambda *_: {}, lambda *_: {}, "detection")
    with pytest.raises(ValueError, match="which is for segmenters; for detection leave them out"):
        Predictor(detector, {}, tiles=Tiles((8, 8)))


@pytest.mark.slow
def test_a_large_photo_of_many_classes():
    def many(x):
        return by_colour(x) @ np.random.default_rng(2).normal(size=(5, 21)).astype(np.float32)

    image = np.kron(noise(20, 30), np.ones((100, 100, 1), np.uint8))
    views = TTA(scales=(0.5, 1))
    [result] = predictor(many, tiles=Tiles((512, 512)), tta=views, batch_size=2)([image])
    [expected] = predictor(many)([image])
    assert (result["semantic"][50::100, 50::100] == expected["semantic"][50::100, 50::100]).mean() > 0.99
