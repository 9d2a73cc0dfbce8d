"""YOLO's augmentation (Redmon et al., "You Only Look Once", CVPR 2016, section 2.2), as Darknet has it."""

import dataclasses

import numpy as np

from jaxvision.data.colour import hsv_scaled
from jaxvision.data.geometry import MEAN_COLOUR, cut, pad


@dataclasses.dataclass(frozen=True)
class WindowJitter:
    """A window whose four edges lie up to `amount` of the picture's sides within or beyond its own, each by itself.

    Squashed to the canvas (`data.stretch`) that is random scaling and translation. Objects are cut as by `Crop`. Beyond the
    picture there is the mean colour, and semantic 255; Darknet repeats the border pixels.
    """

    amount: float = 0.2

    def __post_init__(self):
        if not 0 <= self.amount < 0.5:
            raise ValueError(f"window_jitter: amount is {self.amount}, expected 0 <= amount < 0.5")

    def __call__(self, example, rng):
        size = np.array(example["image"].shape[:2])
        low = np.rint(rng.uniform(-self.amount, self.amount, 2) * size).astype(int)
        high = size + np.rint(rng.uniform(-self.amount, self.amount, 2) * size).astype(int)
        high = np.maximum(high, low + 1)
        (y1, x1), (y2, x2) = np.maximum(low, 0), np.minimum(high, size)
        return dict(pad(cut(example, y1, x1, y2, x2), *np.maximum(-low, 0), *(high - low), MEAN_COLOUR))


@dataclasses.dataclass(frozen=True)
class HsvJitter:
    """Saturation and exposure, the S and V of HSV, each times a factor up to its number or divided by it, as often."""

    saturation: float = 1.5
    exposure: float = 1.5

    def __post_init__(self):
        for name, most in dataclasses.asdict(self).items():
            if most < 1:
                raise ValueError(f"hsv_jitter: {name} is {most}, expected a factor of at least 1")

    def __call__(self, example, rng):
        factors = rng.uniform(1, [self.saturation, self.exposure])
        factors = np.where(rng.random(2) < 0.5, factors, 1 / factors)
        image = hsv_scaled(example["image"].astype(np.float32) / 255, *factors)
        return {**example, "image": np.rint(image * 255).astype(np.uint8)}
