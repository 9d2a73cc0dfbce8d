import numpy as np
import pytest
from tiny import Rectangles

from jaxvision import batch as fields
from jaxvision.data.border_weights import BorderWeights, balance
from jaxvision.data.geometry import IGNORED
from jaxvision.data.loader import Batches, load


def slow_border(mask):
    """The pixels of a mask beside one that is not in it; beyond the picture it may go on."""
    height, width = mask.shape
    border = []
    for y, x in np.argwhere(mask):
        sides = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        if any(0 <= i < height and 0 <= j < width and not mask[i, j] for i, j in sides):
            border.append((y, x))
    return border


def slow_weights(semantic, instances, w0, sigma):
    """Equation 2 of the paper, pixel by pixel and instance by instance."""
    borders = [border for border in map(slow_border, instances) if border]
    counted = semantic[semantic != IGNORED]
    present = sorted(set(counted.tolist()))
    weights = np.zeros(semantic.shape)
    for y, x in np.ndindex(semantic.shape):
        if semantic[y, x] == IGNORED:
            continue
        weights[y, x] = counted.size / (len(present) * (counted == semantic[y, x]).sum())
        distances = sorted(min(((y - i) ** 2 + (x - j) ** 2) ** 0.5 for i, j in border) for border in borders)
        if len(distances) > 1:
            weights[y, x] += w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
    return weights


def slow_components(semantic):
    """Parts of one class that touch at sides or corners, by flooding."""
    left, parts = {tuple(p) for p in np.argwhere((semantic > 0) & (semantic != IGNORED)).tolist()}, []
    while left:
        pixels, part = [left.pop()], np.zeros(semantic.shape, bool)
        while pixels:
            y, x = pixels.pop()
            part[y, x] = True
            for i in range(y - 1, y + 2):
                for j in range(x - 1, x + 2):
                    if (i, j) in left and semantic[i, j] == semantic[y, x]:
                        left.remove((i, j))
                        pixels.append((i, j))
        parts.append(part)
    return parts


def cells(seed, count=5, size=(21, 26), classes=3):
    """Overlapping boxes and their map, some of it ignored."""
    rng = np.random.default_rng(seed)
    masks, semantic = np.zeros((count, *size), np.uint8), np.zeros(size, np.int32)
    for n, mask in enumerate(masks):
        y, x = rng.integers(-2, size[0] - 2), rng.integers(-2, size[1] - 2)
        mask[max(y, 0) : y + rng.integers(3, 8), max(x, 0) : x + rng.integers(3, 8)] = 1
        semantic[mask > 0] = n % (classes - 1) + 1
    semantic[rng.random(size) < 0.05] = IGNORED
    return {"masks": masks, "semantic": semantic}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("masks", [True, False])
def test_as_pixel_by_pixel(seed, masks):
    example = cells(seed, count=seed)
    if not masks:
        del example["masks"]
    instances = example["masks"] if masks else slow_components(example["semantic"])
    new = BorderWeights(7.0, 3.0)(example)
    expected = slow_weights(example["semantic"], instances, 7.0, 3.0)
    assert new["pixel_weights"].dtype == np.float32 and new.keys() == example.keys() | {"pixel_weights"}
    np.testing.assert_allclose(new["pixel_weights"], expected, rtol=1e-5)


def test_a_gap_between_two_cells_by_hand():
    semantic = np.zeros((9, 12), np.int32)
    semantic[3:6, 1:5] = semantic[3:6, 7:11] = 1
    weights = BorderWeights()({"semantic": semantic})["pixel_weights"]
    background, cell = 108 / (2 * 84), 108 / (2 * 24)
    # Two columns of ground between them: 1 and 2 pixels to the borders.
    np.testing.assert_allclose(weights[4, 5:7], background + 10 * np.exp(-9 / 50), rtol=1e-6)
    np.testing.assert_allclose(weights[4, 4], cell + 10 * np.exp(-9 / 50), rtol=1e-6)
    assert weights[4, 5] > weights[0, 0] > background
    alone = BorderWeights()({"semantic": np.where(np.arange(12) < 6, semantic, 0)})["pixel_weights"]
    np.testing.assert_allclose(alone[semantic == 0], 108 / (2 * 96), rtol=1e-6)


def test_classes_weigh_the_same_and_the_mean_is_one():
    semantic = np.random.default_rng(0).choice([0, 3, 7, IGNORED], (30, 40), p=[0.7, 0.2, 0.05, 0.05])
    weights = balance(semantic)
    sums = [weights[semantic == k].sum() for k in (0, 3, 7)]
    np.testing.assert_allclose(sums, sums[0])
    assert weights[semantic != IGNORED].mean() == pytest.approx(1) and not weights[semantic == IGNORED].any()
    assert not balance(np.full((4, 5), IGNORED)).any() and (balance(np.zeros((4, 5), int)) == 1).all()


def test_what_is_one_whole_has_no_border():
    whole = {"semantic": np.ones((8, 9), np.int32), "masks": np.ones((2, 8, 9), np.uint8)}
    np.testing.assert_array_equal(BorderWeights()(whole)["pixel_weights"], np.ones((8, 9)))


def test_without_a_map_it_is_an_error():
    with pytest.raises(ValueError, match="border_weights: weights go by the semantic map"):
        BorderWeights()({"image": np.zeros((4, 4, 3), np.uint8)})


class Semantic(Rectangles):
    """Without masks and boxes, as sets of maps are."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        return {name: example[name] for name in ("image", "image_id", "file", "semantic")}


@pytest.mark.parametrize("source", [Rectangles, Semantic])
def test_a_batch_carries_them_on_its_canvas(source):
    source = source(sizes=((40, 64), (64, 50), (30, 30), (64, 64)))
    options = dict(batch_size=2, fields=("semantic",), canvases=[(48, 48)])
    config = {"flip": {}, "random_scale": {}, "crop": {"height": 40, "width": 60}, "elastic": {"sigma": 2.0}}
    batches = Batches(source, seed=0, transforms_config={**config, "border_weights": {"w0": 5}}, **options)
    plain = Batches(source, seed=0, transforms_config=config, **options)
    for batch, bare in zip(load(batches, 0, 3), load(plain, 0, 3)):
        assert batch.keys() == bare.keys() | {"pixel_weights"}
        for name in bare:  # the weights draw nothing
            np.testing.assert_array_equal(batch[name], bare[name])
        weights = batch["pixel_weights"]
        assert weights.dtype == np.float32 and weights.shape == (2, 48, 48)
        for n, (height, width) in enumerate(batch["image_size"]):
            assert not weights[n, height:].any() and not weights[n, :, width:].any()
            np.testing.assert_array_equal(weights[n] > 0, batch["semantic"][n] != IGNORED)
            if source.__class__ is Semantic:
                semantic = batch["semantic"][n, :height, :width]
                expected = slow_weights(semantic, slow_components(semantic), 5.0, 5.0)
                np.testing.assert_allclose(weights[n, :height, :width], expected, rtol=1e-5)


def test_evaluation_has_none_and_the_field_is_known():
    config = {"border_weights": {}}
    batch = Batches(Rectangles(), batch_size=2, fields=("semantic",), canvases=[(48, 48)], transforms_config=config)[0]
    assert "pixel_weights" not in batch
    blank = fields.blank(("semantic", "pixel_weights"), (8, 10), 3)["pixel_weights"]
    assert blank.shape == (3, 8, 10) and blank.dtype == np.float32 and not blank.any()
