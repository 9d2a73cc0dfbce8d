"""SSD's augmentation (Liu et al., ECCV 2016, sections 2.2 and 3.6) with torchvision's numbers."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxvision.data.colour import brightness, contrast, hue, saturation
from jaxvision.data.geometry import MEAN_COLOUR, cut, iou, pad, select


@dataclasses.dataclass(frozen=True)
class PhotometricDistort:
    """Brightness, contrast, saturation, hue and the order of the channels, each with the given probability.

    Factors are uniform in 1 +- amount, hue turns by +- `hue` of the circle; contrast comes before saturation and hue as
    often as behind them. Rounded to 8 bits once, at the end; torchvision rounds after each change.
    """

    brightness: float = 0.125
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.05
    probability: float = 0.5

    def __post_init__(self):
        limits = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0.5, "probability": 1}
        for name, amount in dataclasses.asdict(self).items():
            if not 0 <= amount <= limits[name]:
                raise ValueError(f"photometric_distort: {name} is {amount}, expected 0..{limits[name]}")

    def __call__(self, example, rng):
        image = example["image"].astype(np.float32) / 255
        changes = [(brightness, self.brightness), (saturation, self.saturation), (hue, self.hue)]
        changes.insert(1 if rng.random() < 0.5 else 3, (contrast, self.contrast))
        for change, amount in changes:
            if rng.random() < self.probability:
                image = np.clip(change(image, np.float32(rng.uniform(-amount, amount))), 0, 1)
        if rng.random() < self.probability:
            image = np.ascontiguousarray(image[..., rng.permutation(3)])
        return {**example, "image": np.rint(image * 255).astype(np.uint8)}


@dataclasses.dataclass(frozen=True)
class ZoomOut:
    """With the given probability lays the picture at random on a ground that is `low` to `high` times as high and as wide.

    The ground has the mean colour, and semantic 255.
    """

    low: float = 1.0
    high: float = 4.0
    probability: float = 0.5

    def __post_init__(self):
        if not 1 <= self.low <= self.high:
            raise ValueError(f"zoom_out: expected 1 <= low <= high, got low {self.low}, high {self.high}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"zoom_out: probability is {self.probability}, expected 0..1")

    def __call__(self, example, rng):
        if rng.random() >= self.probability:
            return dict(example)
        size = np.array(example["image"].shape[:2])
        ground = (size * rng.uniform(self.low, self.high)).astype(int)
        top, left = ((ground - size) * rng.random(2)).astype(int)
        return dict(pad(example, top, left, *ground, MEAN_COLOUR))


@dataclasses.dataclass(frozen=True)
class IoUCrop:
    """A random window that overlaps some object by at least an IoU drawn from `overlaps`; 1 takes the whole picture.

    Its sides are `low` to `high` of the picture's, width / height between `narrow` and `wide`. Objects whose centre lies
    outside are dropped, the others cut as by `Crop`. Where none of `trials` windows will do, another overlap is drawn; so
    `overlaps` must hold a 1, all that is left to a picture without objects. Crowds steer nothing.
    """

    low: float = 0.3
    high: float = 1.0
    narrow: float = 0.5
    wide: float = 2.0
    overlaps: Sequence[float] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    trials: int = 40

    def __post_init__(self):
        if not 0 < self.low <= self.high <= 1:
            raise ValueError(f"iou_crop: expected 0 < low <= high <= 1, got low {self.low}, high {self.high}")
        if not 0 < self.narrow <= self.wide:
            raise ValueError(f"iou_crop: expected 0 < narrow <= wide, got narrow {self.narrow}, wide {self.wide}")
        if max(self.overlaps, default=0) < 1:
            raise ValueError(f"iou_crop: overlaps is {tuple(self.overlaps)}, a 1 is missing, the whole picture")

    def __call__(self, example, rng):
        if "boxes" not in example:
            raise ValueError("iou_crop: windows go by the boxes, and this source has none; take crop instead")
        boxes = example["boxes"]
        centres, alone = (boxes[:, :2] + boxes[:, 2:]) / 2, ~example.get("crowd", np.zeros(len(boxes), bool))
        while True:
            least = self.overlaps[rng.integers(len(self.overlaps))]
            if least >= 1:
                return dict(example)
            for _ in range(self.trials):
                window = self._window(example["image"].shape[:2], rng)
                if window is None:
                    continue
                inside = ((centres > window[:2]) & (centres < window[2:])).all(1)
                if (inside & alone & (iou(boxes, window[None])[:, 0] >= least)).any():
                    x1, y1, x2, y2 = window
                    return cut(select(example, inside), y1, x1, y2, x2)

    def _window(self, size, rng) -> np.ndarray | None:
        """x1 y1 x2 y2, whole numbers, or None where the draw has a form that is not wanted."""
        size = np.array(size[::-1])
        extent = (size * rng.uniform(self.low, self.high, 2)).astype(int)
        if min(extent) < 1 or not self.narrow <= extent[0] / extent[1] <= self.wide:
            return None
        corner = ((size - extent) * rng.random(2)).astype(int)
        return np.concatenate([corner, corner + extent])
