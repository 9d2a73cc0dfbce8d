import math

import numpy as np
import pytest

from jaxvision.data.resized_crop import RandomResizedCrop


class Draws:
    def __init__(self, *draws):
        self.draws = list(draws)

    def _next(self, *_, **__):
        return self.draws.pop(0)

    uniform = integers = _next


def test_by_hand():
    """A quarter of 8 x 16, twice as wide as high: 4 x 8 pixels, to 2 x 4."""
    image = np.arange(8 * 16 * 3).reshape(8, 16, 3).astype(np.uint8) // 2
    example = {"image": image, "boxes": np.array([[6, 2, 10, 6], [0, 0, 2, 2]], np.float32), "label": 1}
    example |= {"classes": np.array([1, 2], np.int32), "semantic": np.arange(128, dtype=np.int32).reshape(8, 16)}
    found = RandomResizedCrop(2, 4, ratio=(0.5, 2.0))(example, Draws(0.25, math.log(2.0), 3, 6))
    assert found["image"].shape == (2, 4, 3) and found["label"] == 1
    assert found["boxes"].tolist() == [[0, 0, 2, 1.5]] and found["classes"].tolist() == [1]
    np.testing.assert_array_equal(found["semantic"], example["semantic"][4:7:2, 7:14:2])


def test_the_largest_window_in_the_middle_where_none_fits():
    def window(height, width):
        rng = Draws(*(1.0, math.log(4 / 3)) * 10) if height > width else Draws(*(1.0, math.log(3 / 4)) * 10)
        found = RandomResizedCrop(8, 8).window((height, width), rng)
        assert not rng.draws
        return found

    assert window(30, 90) == (0, 25, 30, 40)  # at most 4/3 as wide as high
    assert window(90, 30) == (25, 0, 40, 30)
    assert window(1, 500) == (0, 249, 1, 1)


def slow(size, rng, scale, ratio):
    """torchvision's get_params, written out."""
    for _ in range(10):
        target = rng.uniform(*scale) * size[0] * size[1]
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < width <= size[1] and 0 < height <= size[0]:
            return rng.integers(0, size[0] - height + 1), rng.integers(0, size[1] - width + 1), height, width
    return None


def test_windows_are_torchvisions():
    shares, ratios = [], []
    for seed in range(300):
        size = (60, 90)
        found = RandomResizedCrop(8, 8).window(size, np.random.default_rng(seed))
        wanted = slow(size, np.random.default_rng(seed), (0.08, 1), (3 / 4, 4 / 3))
        assert wanted is None or found == wanted
        top, left, height, width = found
        assert 0 <= top <= size[0] - height and 0 <= left <= size[1] - width
        shares.append(height * width / 5400)
        ratios.append(width / height)
    assert 0.07 < min(shares) < 0.12 and 0.8 < max(shares) < 0.9  # 80 x 60 is the largest
    assert 0.7 < min(ratios) < 0.8 and 1.28 < max(ratios) < 1.4 and 0.95 < np.exp(np.mean(np.log(ratios))) < 1.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 0}, "expected a positive height and width, got 0 x 8"),
        ({"scale": (0, 1)}, "random_resized_crop: scale is"),
        ({"scale": (0.5, 1.5)}, "random_resized_crop: scale is"),
        ({"ratio": (2, 1)}, "random_resized_crop: ratio is"),
    ],
)
def test_what_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        RandomResizedCrop(**{"height": 8, "width": 8, **options})
