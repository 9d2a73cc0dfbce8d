"""Transforms of one example: image, boxes, masks, keypoints and semantic map move together.

Every transform is a frozen dataclass called as `transform(example, rng)`, `CopyPaste` with a second example behind; `MixUp`
takes rows of a batch. It returns a new dict and never writes into the arrays it was given. How fields move is in
`jaxvision.data.geometry`.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxvision.data.affine import Affine
from jaxvision.data.border_weights import BorderWeights
from jaxvision.data.colour import brightness, contrast, hue, saturation
from jaxvision.data.copy_paste import CopyPaste
from jaxvision.data.elastic import Elastic
from jaxvision.data.geometry import fit, mirror, pad, random_window, resize, turn
from jaxvision.data.mix_up import MixUp
from jaxvision.data.object_crop import ObjectCrop
from jaxvision.data.resized_crop import RandomResizedCrop
from jaxvision.data.ssd_transforms import IoUCrop, PhotometricDistort, RandomInterpolation, ZoomOut
from jaxvision.data.yolo_transforms import HsvJitter, WindowJitter
from jaxvision.suggest import suggest


@dataclasses.dataclass(frozen=True)
class Flip:
    """Mirrors left and right with the given probability; `flip_pairs` are the joints that change places."""

    probability: float = 0.5
    flip_pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise ValueError(f"flip: probability is {self.probability}, expected 0..1")

    def __call__(self, example, rng):
        return mirror(example, self.flip_pairs) if rng.random() < self.probability else dict(example)


@dataclasses.dataclass(frozen=True)
class QuarterTurn:
    """Turns by 0, 90, 180 or 270 degrees, each as likely."""

    def __call__(self, example, rng):
        example = dict(example)
        for _ in range(rng.integers(4)):
            example = turn(example)
        return example


@dataclasses.dataclass(frozen=True)
class ScaleJitter:
    """Large-scale jitter: scales by a factor uniform in [low, high], then takes a window of the original size.

    A larger picture is cropped at random. A smaller one is laid at random on the mean colour, with semantic 255 there:
    left small, it would only be scaled up again to the canvas. What the window does to objects: see `Crop`. Follows
    torchvision's ScaleJitter and FixedSizeCrop, which lay the small picture at the top left.
    """

    low: float
    high: float

    def __post_init__(self):
        if not 0 < self.low <= self.high:
            raise ValueError(f"scale_jitter: expected 0 < low <= high, got low {self.low}, high {self.high}")

    def __call__(self, example, rng):
        height, width = example["image"].shape[:2]
        scale = rng.uniform(self.low, self.high)
        scaled = resize(example, max(1, round(height * scale)), max(1, round(width * scale)))
        return random_window(scaled, height, width, rng)


@dataclasses.dataclass(frozen=True)
class RandomScale:
    """Scales by one of low, low + step, ... high, each as likely; step 0: by any factor between them.

    With `Crop` behind it, which widens what became too small, the augmentation of DeepLab (Chen et al., arXiv 1706.05587,
    section 4; factors and step as in their code).
    """

    low: float = 0.5
    high: float = 2.0
    step: float = 0.25

    def __post_init__(self):
        if not 0 < self.low <= self.high:
            raise ValueError(f"random_scale: expected 0 < low <= high, got low {self.low}, high {self.high}")
        count = (self.high - self.low) / self.step if self.step > 0 else 0
        if self.step < 0 or abs(count - round(count)) > 1e-6:
            raise ValueError(f"random_scale: steps of {self.step} do not lead from {self.low} to {self.high}")

    def __call__(self, example, rng):
        if self.step:
            scale = self.low + self.step * rng.integers(round((self.high - self.low) / self.step), endpoint=True)
        else:
            scale = rng.uniform(self.low, self.high)
        height, width = example["image"].shape[:2]
        return resize(example, max(1, round(height * scale)), max(1, round(width * scale)))


@dataclasses.dataclass(frozen=True)
class Crop:
    """A random window of height x width pixels; a smaller picture is widened (mean colour, semantic 255).

    An object that is wholly inside only moves. One that is cut gets the box of what its mask still shows, or without
    masks its clipped box, and its area shrinks by the part that was cut. One with nothing left is dropped: no mask
    pixel, or without masks under one pixel of width or height. Joints outside become unlabelled.
    """

    height: int
    width: int

    def __post_init__(self):
        if min(self.height, self.width) < 1:
            raise ValueError(f"crop: expected a positive height and width, got {self.height} x {self.width}")

    def __call__(self, example, rng):
        return random_window(example, self.height, self.width, rng)


@dataclasses.dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast and saturation times a factor uniform in 1 +- amount, hue turned by +- `hue` of the circle.

    In random order, as torchvision's transform of that name; rounded to 8 bits once, at the end.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self):
        amounts = dataclasses.asdict(self)
        limits = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0.5}
        for name, amount in amounts.items():
            if not 0 <= amount <= limits[name]:
                raise ValueError(f"color_jitter: {name} is {amount}, expected 0..{limits[name]}")

    def __call__(self, example, rng):
        image = example["image"].astype(np.float32) / 255
        changes = (brightness, contrast, saturation, hue)
        amounts = rng.uniform(-1, 1, 4) * dataclasses.astuple(self)
        for i in rng.permutation(4):
            if amounts[i]:
                image = np.clip(changes[i](image, np.float32(amounts[i])), 0, 1)
        return {**example, "image": np.rint(image * 255).astype(np.uint8)}


@dataclasses.dataclass(frozen=True)
class PermuteChannels:
    """Red, green and blue in random order."""

    def __call__(self, example, rng):
        return {**example, "image": np.ascontiguousarray(example["image"][..., rng.permutation(3)])}


@dataclasses.dataclass(frozen=True)
class ResizeToCanvas:
    """Scales the picture, its shape kept, to the largest that fits on the canvas, and zero-pads right and bottom.

    The image is resized bilinearly without antialiasing (as torchvision's detectors do), masks and semantic map by
    nearest; boxes and joints take the ratio of new to old size of each axis, and an object whose mask vanishes keeps
    its row. A picture that fits already stays bit for bit. Semantic is 255 on the padding. Adds `image_size` and
    `original_size`, (2,) int32 height and width, of the part of the canvas that is the picture, and of the picture that
    came in. Takes no randomness.
    """

    canvas: tuple[int, int]

    def __call__(self, example, rng=None):
        size = example["image"].shape[:2]
        new_size = fit(size, self.canvas)
        example = pad(resize(example, *new_size), 0, 0, *self.canvas, colour=(0, 0, 0))
        return {**example, "image_size": np.array(new_size, np.int32), "original_size": np.array(size, np.int32)}


@dataclasses.dataclass(frozen=True)
class StretchToCanvas:
    """Scales the picture to fill the canvas, its shape not kept; otherwise as `ResizeToCanvas`. Takes no randomness."""

    canvas: tuple[int, int]

    def __call__(self, example, rng=None):
        size = np.array(example["image"].shape[:2], np.int32)
        new = {"image_size": np.array(self.canvas, np.int32), "original_size": size}
        return {**resize(example, *self.canvas), **new}


# The order is that in which they run, whatever the order in a config: geometry first, colour last. Only SSD's distortion
# comes before all, as the ground that `zoom_out` lays is not distorted; and weights of pixels, which go by distances on the
# canvas, are found when the picture lies there. Rows of a batch are mixed last.
TRANSFORMS = {
    "photometric_distort": PhotometricDistort,
    "zoom_out": ZoomOut,
    "iou_crop": IoUCrop,
    "random_interpolation": RandomInterpolation,
    "window_jitter": WindowJitter,
    "scale_jitter": ScaleJitter,
    "object_crop": ObjectCrop,
    "random_scale": RandomScale,
    "elastic": Elastic,
    "affine": Affine,
    "random_resized_crop": RandomResizedCrop,
    "crop": Crop,
    "flip": Flip,
    "quarter_turn": QuarterTurn,
    "copy_paste": CopyPaste,
    "color_jitter": ColorJitter,
    "hsv_jitter": HsvJitter,
    "permute_channels": PermuteChannels,
    "border_weights": BorderWeights,
    "mix_up": MixUp,
}


def build(config: Mapping[str, Mapping], flip_pairs=()) -> list:
    """The transforms that a config names, `{"flip": {"probability": 0.5}, ...}`, in the order of `TRANSFORMS`.

    `flip_pairs` are the source's. Raises ValueError for an unknown name or argument and suggests the nearest.
    """
    for name in config:
        _known(name, TRANSFORMS, "transform")
    transforms = []
    for name, transform in TRANSFORMS.items():
        if name in config:
            arguments = dict(config[name])
            if name == "flip":
                arguments.setdefault("flip_pairs", tuple(map(tuple, flip_pairs)))
            for argument in arguments:
                _known(argument, [field.name for field in dataclasses.fields(transform)], f"argument of {name}")
            try:
                transforms.append(transform(**arguments))
            except TypeError as error:
                raise ValueError(f"transform {name}: {error}") from error
    return transforms


def _known(name, names, kind):
    if name not in names:
        raise ValueError(f"unknown {kind} {name!r}; {suggest(name, names)}")
