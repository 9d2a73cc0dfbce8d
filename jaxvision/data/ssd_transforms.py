"""SSD's augmentation (Liu et al., ECCV 2016, sections 2.2 and 3.6) with torchvision's numbers, or those of the authors' Caffe."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from jaxvision.data.colour import brightness, contrast, hsv_saturation, hue, saturation, shift
from jaxvision.data.geometry import MEAN_COLOUR, cut, pad, resize, select
from jaxvision.data.overlaps import iou

# What brightness, contrast and saturation mean. Caffe adds to the colours where torchvision multiplies, multiplies them where
# torchvision spreads them about their mean, and takes the saturation of HSV and not the distance from grey.
RULES = {"torchvision": (brightness, contrast, saturation), "caffe": (shift, brightness, hsv_saturation)}
INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


@dataclasses.dataclass(frozen=True)
class PhotometricDistort:
    """Brightness, contrast, saturation, hue and the order of the channels, each with the given probability.

    Factors are uniform in 1 +- amount, hue turns by +- `hue` of the circle; contrast comes before saturation and hue as
    often as behind them. rule: "torchvision", or "caffe", whose brightness is a shift by +- amount, see `RULES`; the
    authors' recipe has hue 0.1 (18 of OpenCV's 180) and shuffle 0. shuffle: the probability of another order of the
    channels, where that is another. Rounded to 8 bits once, at the end; both round after each change.
    """

    brightness: float = 0.125
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.05
    probability: float = 0.5
    shuffle: float | None = None
    rule: str = "torchvision"

    def __post_init__(self):
        limits = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0.5, "probability": 1, "shuffle": 1}
        for name, limit in limits.items():
            amount = getattr(self, name)
            if amount is not None and not 0 <= amount <= limit:
                raise ValueError(f"photometric_distort: {name} is {amount}, expected 0..{limit}")
        if self.rule not in RULES:
            raise ValueError(f"photometric_distort: rule {self.rule!r} is not one of {', '.join(RULES)}")

    def __call__(self, example, rng):
        image = example["image"].astype(np.float32) / 255
        brighten, spread, saturate = RULES[self.rule]
        changes = [(brighten, self.brightness), (saturate, self.saturation), (hue, self.hue)]
        changes.insert(1 if rng.random() < 0.5 else 3, (spread, self.contrast))
        for change, amount in changes:
            if rng.random() < self.probability:
                image = np.clip(change(image, np.float32(rng.uniform(-amount, amount))), 0, 1)
        if rng.random() < (self.probability if self.shuffle is None else self.shuffle):
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


@dataclasses.dataclass(frozen=True)
class RandomInterpolation:
    """Resizes to height x width pixels, the picture's shape not kept, by one of OpenCV's five interpolations.

    Linear, by area, nearest, cubic or Lanczos, as the authors' recipe has it, each as likely. Name the sides of the canvas:
    what fits it already is not resized again.
    """

    height: int
    width: int

    def __post_init__(self):
        if min(self.height, self.width) < 1:
            raise ValueError(
                f"random_interpolation: expected a positive height and width, got {self.height} x {self.width}"
            )

    def __call__(self, example, rng):
        return resize(example, self.height, self.width, INTERPOLATIONS[rng.integers(len(INTERPOLATIONS))])
