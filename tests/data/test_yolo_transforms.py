import colorsys

import numpy as np
import pytest

from jaxvision.data.geometry import IGNORED, MEAN_COLOUR
from jaxvision.data.transforms import StretchToCanvas, build
from jaxvision.data.yolo_transforms import HsvJitter, WindowJitter


def picture(seed=0, height=40, width=60):
    """Colours that say where a pixel was, and two boxes."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return {
        "image": np.stack([x, y, 0 * x + 200], -1).astype(np.uint8),
        "semantic": np.zeros((height, width), np.int32),
        "boxes": np.array([[2, 3, 22, 30], [30, 10, 58, 38]], np.float32),
        "classes": np.array([1, 2], np.int32),
    }


@pytest.mark.parametrize("seed", range(12))
def test_a_window_within_and_beyond_the_picture(seed):
    example = picture()
    new = WindowJitter(0.2)(example, np.random.default_rng(seed))
    height, width = new["image"].shape[:2]
    assert 24 <= height <= 56 and 36 <= width <= 84
    inside = new["image"][..., 2] == 200
    ground = ~inside
    assert (new["image"][ground] == MEAN_COLOUR).all()
    np.testing.assert_array_equal(new["semantic"] == IGNORED, ground)
    rows, columns = np.nonzero(inside)
    offset = np.array([columns[0], rows[0]]) - new["image"][rows[0], columns[0], :2]
    assert (abs(offset) <= [12, 8]).all()
    np.testing.assert_array_equal(
        new["image"][inside][:, :2], np.stack([columns, rows], 1) - offset, "the picture only moves"
    )
    low, high = np.maximum(-offset, 0), np.minimum(np.array([width, height]) - offset, (60, 40))
    clipped = np.clip(example["boxes"], np.tile(low, 2), np.tile(high, 2)) + np.tile(offset, 2)
    np.testing.assert_array_equal(new["boxes"], clipped)


def test_all_edges_move_on_their_own_and_none_without_an_amount():
    sizes = [WindowJitter(0.2)(picture(), np.random.default_rng(seed))["image"].shape[:2] for seed in range(300)]
    heights, widths = np.array(sizes).T / np.array([[40], [60]])
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.15
    for sides in (heights, widths):
        assert sides.min() < 0.7 and sides.max() > 1.3 and abs(sides.mean() - 1) < 0.03
    same = WindowJitter(0.0)(picture(), np.random.default_rng(0))
    assert all(np.array_equal(same[name], value) for name, value in picture().items())
    squashed = StretchToCanvas((32, 32))(WindowJitter(0.2)(picture(), np.random.default_rng(1)))
    assert squashed["image"].shape == (32, 32, 3) and (squashed["boxes"] <= 32).all()


def test_an_object_that_is_left_outside_is_dropped():
    example = {**picture(), "boxes": np.array([[0, 0, 2, 2], [30, 10, 58, 38]], np.float32)}
    counts = {len(WindowJitter(0.3)(example, np.random.default_rng(seed))["classes"]) for seed in range(30)}
    assert counts == {1, 2}


class Fixed:
    """Factors and which of them divide, as drawn."""

    def __init__(self, factors, draws):
        self.factors, self.draws = np.array(factors), np.array(draws)

    def uniform(self, low, high):
        assert low == 1 and (self.factors <= high).all()
        return self.factors

    def random(self, count):
        return self.draws


@pytest.mark.parametrize("draws, saturation, value", [((0.1, 0.1), 1.4, 1.2), ((0.9, 0.1), 1 / 1.4, 1.2)])
def test_saturation_and_exposure_are_those_of_hsv(draws, saturation, value):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    new = HsvJitter()({"image": image}, Fixed((1.4, 1.2), draws))["image"]
    for before, after in zip(image.reshape(-1, 3), new.reshape(-1, 3)):
        h, s, v = colorsys.rgb_to_hsv(*before / 255)
        wanted = np.array(colorsys.hsv_to_rgb(h, min(s * saturation, 1), min(v * value, 1))) * 255
        np.testing.assert_allclose(after, wanted, atol=0.6)


def test_factors_are_as_often_below_one():
    grey = {"image": np.full((1, 1, 3), 90, np.uint8)}
    rng = np.random.default_rng(0)
    values = np.array([HsvJitter()(grey, rng)["image"][0, 0, 0] for _ in range(400)]) / 90
    assert 0.65 < values.min() < 0.7 and 1.45 < values.max() < 1.52
    assert 0.42 < (values < 1).mean() < 0.58


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"window_jitter": {"amount": 0.5}}, "window_jitter: amount is 0.5"),
        ({"hsv_jitter": {"exposure": 0.8}}, "hsv_jitter: exposure is 0.8, expected a factor of at least 1"),
    ],
)
def test_arguments_that_cannot_be_meant(config, text):
    with pytest.raises(ValueError, match=text):
        build(config)
