"""The crop that ImageNet's classifiers learn from (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6)."""

import dataclasses

import numpy as np

from jaxvision.data.geometry import cut, resize


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """A window of a share of the picture's area and of a ratio of width to height, resized to height x width pixels.

    scale: (low, high) of the share, drawn uniformly. ratio: (low, high), its logarithm drawn uniformly. After ten windows
    that do not fit in, the largest in the middle that has the picture's own ratio, or the nearest allowed. These are
    torchvision's rules and defaults; objects are cut as by `Crop`. Departure: bilinear without antialiasing, as everywhere
    in training here.
    """

    height: int
    width: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self):
        if min(self.height, self.width) < 1:
            raise ValueError(
                f"random_resized_crop: expected a positive height and width, got {self.height} x {self.width}"
            )
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"random_resized_crop: scale is {self.scale}, expected 0 < low <= high <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"random_resized_crop: ratio is {self.ratio}, expected 0 < low <= high")

    def __call__(self, example, rng):
        top, left, height, width = self.window(example["image"].shape[:2], rng)
        return resize(cut(example, top, left, top + height, left + width), self.height, self.width)

    def window(self, size, rng):
        """(top, left, height, width) in a picture of that (height, width)."""
        old_height, old_width = size
        for _ in range(10):
            area = old_height * old_width * rng.uniform(*self.scale)
            ratio = np.exp(rng.uniform(*np.log(self.ratio)))
            height, width = round(np.sqrt(area / ratio)), round(np.sqrt(area * ratio))
            if 0 < width <= old_width and 0 < height <= old_height:
                top, left = (
                    int(rng.integers(most, endpoint=True)) for most in (old_height - height, old_width - width)
                )
                return top, left, height, width
        low, high = self.ratio
        height, width = (
            min(old_height, max(1, round(old_width / low))),
            min(old_width, max(1, round(old_height * high))),
        )
        return (old_height - height) // 2, (old_width - width) // 2, height, width
