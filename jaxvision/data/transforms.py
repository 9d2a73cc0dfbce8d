"""Transforms of one example: image, boxes, masks, keypoints and semantic map move together.

Every transform is a frozen dataclass called as `transform(example, rng)`. It returns a new dict and never writes into
the arrays it was given. Boxes, proposals and keypoints share one continuous frame in which pixel i covers [i, i + 1]:
a mirrored x is W - x, as in torchvision. Joints with visibility 0 are unlabelled and are written as (0, 0, 0), as COCO
does. Captions, where an example has boxes, are those of the boxes, one each.
"""

import dataclasses
from collections.abc import Mapping

import cv2
import numpy as np

from jaxvision.suggest import suggest

IGNORED = 255  # in semantic maps
MEAN_COLOUR = (124, 116, 104)  # ImageNet's: what a widened picture shows beyond its edge, as torchvision's recipes do
OBJECT_FIELDS = ("boxes", "classes", "crowd", "difficult", "area", "masks", "keypoints", "annotation_ids", "captions")


@dataclasses.dataclass(frozen=True)
class Flip:
    """Mirrors left and right with the given probability; `flip_pairs` are the joints that change places."""

    probability: float = 0.5
    flip_pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise ValueError(f"flip: probability is {self.probability}, expected 0..1")

    def __call__(self, example, rng):
        return _mirror(example, self.flip_pairs) if rng.random() < self.probability else dict(example)


@dataclasses.dataclass(frozen=True)
class QuarterTurn:
    """Turns by 0, 90, 180 or 270 degrees, each as likely."""

    def __call__(self, example, rng):
        example = dict(example)
        for _ in range(rng.integers(4)):
            example = _turn(example)
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
        scaled = _resize(example, max(1, round(height * scale)), max(1, round(width * scale)))
        return _random_window(scaled, height, width, rng)


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
        return _random_window(example, self.height, self.width, rng)


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
        changes = (_brightness, _contrast, _saturation, _hue)
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
        example = _pad(_resize(example, *new_size), 0, 0, *self.canvas, colour=(0, 0, 0))
        return {**example, "image_size": np.array(new_size, np.int32), "original_size": np.array(size, np.int32)}


def fit(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a picture of `size` scaled to fit the canvas: floor(size * min of the two ratios), at least 1.

    In whole numbers: floor(h * (H / h)) in floats is H - 1 for some sizes.
    """
    (height, width), (canvas_height, canvas_width) = map(int, size), map(int, canvas)
    if canvas_height * width <= canvas_width * height:
        return canvas_height, max(1, width * canvas_height // height)
    return max(1, height * canvas_width // width), canvas_width


# The order is that in which they run, whatever the order in a config: geometry first, colour last.
TRANSFORMS = {
    "scale_jitter": ScaleJitter,
    "crop": Crop,
    "flip": Flip,
    "quarter_turn": QuarterTurn,
    "color_jitter": ColorJitter,
    "permute_channels": PermuteChannels,
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


def tight_boxes(masks: np.ndarray) -> np.ndarray:
    """(N, 4) float32 boxes around masks (N, H, W); zeros where a mask is empty."""
    masks = np.asarray(masks) > 0
    columns, rows = masks.any(axis=1), masks.any(axis=2)
    x1, y1 = columns.argmax(axis=1), rows.argmax(axis=1)
    x2 = columns.shape[1] - columns[:, ::-1].argmax(axis=1)
    y2 = rows.shape[1] - rows[:, ::-1].argmax(axis=1)
    return np.stack([x1, y1, x2, y2], axis=1).astype(np.float32) * columns.any(axis=1)[:, None]


def _known(name, names, kind):
    if name not in names:
        raise ValueError(f"unknown {kind} {name!r}; {suggest(name, names)}")


def _mapped(example, maps):
    """A new example with each function of `maps` applied to the field of its name, where there is one."""
    return {name: maps[name](value) if name in maps else value for name, value in example.items()}


def _joints(move):
    """Moves (N, K, 3) keypoints by `move(xy)` and writes the unlabelled ones as zeros."""

    def moved(keypoints):
        keypoints = np.concatenate([move(keypoints[..., :2]), keypoints[..., 2:]], axis=-1)
        return (keypoints * (keypoints[..., 2:] > 0)).astype(np.float32)

    return moved


def _mirror(example, flip_pairs):
    width = np.float32(example["image"].shape[1])

    def boxes(b):
        return np.stack([width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]], axis=1)

    def keypoints(k):
        order = np.arange(k.shape[1])
        for left, right in flip_pairs:
            order[[left, right]] = right, left
        return _joints(lambda xy: np.stack([width - xy[..., 0], xy[..., 1]], axis=-1))(k[:, order])

    def mirrored(array):
        return np.ascontiguousarray(array[..., ::-1])

    def image(array):
        return np.ascontiguousarray(array[:, ::-1])

    return _mapped(
        example,
        {
            "image": image,
            "boxes": boxes,
            "proposals": boxes,
            "masks": mirrored,
            "semantic": mirrored,
            "keypoints": keypoints,
        },
    )


def _turn(example):
    """A quarter turn counter-clockwise, as np.rot90: the point (x, y) comes to (y, W - x)."""
    width = np.float32(example["image"].shape[1])

    def turned(axes):
        return lambda array: np.ascontiguousarray(np.rot90(array, axes=axes))

    def boxes(b):
        return np.stack([b[:, 1], width - b[:, 2], b[:, 3], width - b[:, 0]], axis=1)

    return _mapped(
        example,
        {
            "image": turned((0, 1)),
            "boxes": boxes,
            "proposals": boxes,
            "masks": turned((1, 2)),
            "semantic": turned((0, 1)),
            "keypoints": _joints(lambda xy: np.stack([xy[..., 1], width - xy[..., 0]], axis=-1)),
        },
    )


def _resize(example, height, width):
    old_height, old_width = example["image"].shape[:2]
    if (height, width) == (old_height, old_width):
        return dict(example)
    ratio = np.array([width / old_width, height / old_height], np.float32)
    # Nearest by pixel centres, so that masks stay on the picture; torchvision's are up to half a pixel off.
    rows = ((np.arange(height) + 0.5) * old_height / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * old_width / width).astype(np.int64)

    def nearest(array):
        return array[..., rows, :][..., columns]

    def boxes(b):
        return b * np.tile(ratio, 2)

    return _mapped(
        example,
        {
            "image": lambda image: cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR),
            "boxes": boxes,
            "proposals": boxes,
            "masks": nearest,
            "semantic": nearest,
            "keypoints": _joints(lambda xy: xy * ratio),
            "area": lambda area: area * ratio.prod(),
        },
    )


def _random_window(example, height, width, rng):
    """A window of the given size at a random place: inside the picture, or around it where it is the larger."""
    top, left = (
        rng.integers(min(0, old - new), max(0, old - new), endpoint=True)
        for old, new in zip(example["image"].shape[:2], (height, width))
    )
    old_height, old_width = example["image"].shape[:2]
    y1, x1, y2, x2 = max(top, 0), max(left, 0), min(top + height, old_height), min(left + width, old_width)
    return _pad(_cut(example, y1, x1, y2, x2), max(-top, 0), max(-left, 0), height, width, MEAN_COLOUR)


def _cut(example, y1, x1, y2, x2):
    """The window [y1, y2) x [x1, x2), which lies inside the picture; see `Crop` for the objects."""
    offset = np.array([x1, y1], np.float32)
    limit = np.array([x2 - x1, y2 - y1], np.float32)

    def shifted(b):
        return b - np.tile(offset, 2)

    def clipped(b):
        return np.clip(shifted(b), 0, np.tile(limit, 2))

    def proposals(b):
        return clipped(b)[_is_visible(clipped(b))]

    def keypoints(k):
        inside = ((k[..., :2] >= offset) & (k[..., :2] <= offset + limit)).all(axis=-1, keepdims=True)
        return _joints(lambda xy: xy - offset)(k * inside)

    def cut(array):
        return array[..., y1:y2, x1:x2]

    new = _mapped(
        example,
        {
            "image": lambda image: image[y1:y2, x1:x2],
            "boxes": clipped,
            "proposals": proposals,
            "masks": cut,
            "semantic": cut,
            "keypoints": keypoints,
        },
    )
    if "boxes" not in example:
        return new
    whole = (new["boxes"] == shifted(example["boxes"])).all(axis=1)
    if "masks" in example:
        left, before = (e["masks"].sum(axis=(1, 2), dtype=np.int64) for e in (new, example))
        kept = left > 0
        new["boxes"] = np.where(whole[:, None], new["boxes"], tight_boxes(new["masks"]))
    else:
        left, before = _box_area(new["boxes"]), _box_area(example["boxes"])
        kept = whole | _is_visible(new["boxes"])
    if "area" in example:
        share = np.where(whole, 1, left / np.maximum(before, np.finfo(np.float32).tiny))
        new["area"] = (example["area"] * share).astype(np.float32)
    return _select(new, kept)


def _box_area(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _is_visible(boxes):
    return (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)


def _select(example, kept):
    def rows(values):
        return values[kept] if isinstance(values, np.ndarray) else [v for v, keep in zip(values, kept) if keep]

    return _mapped(example, dict.fromkeys(OBJECT_FIELDS, rows))


def _pad(example, top, left, height, width, colour):
    """Lays the picture at (top, left) on a ground of height x width pixels."""
    old_height, old_width = example["image"].shape[:2]
    if (old_height, old_width) == (height, width):
        return example
    rows, columns = slice(top, top + old_height), slice(left, left + old_width)
    offset = np.array([left, top], np.float32)

    def image(array):
        ground = np.empty((height, width, 3), array.dtype)
        ground[...] = colour
        ground[rows, columns] = array
        return ground

    def laid(fill):
        def lay(array):
            ground = np.full((*array.shape[:-2], height, width), fill, array.dtype)
            ground[..., rows, columns] = array
            return ground

        return lay

    def boxes(b):
        return b + np.tile(offset, 2)

    return _mapped(
        example,
        {
            "image": image,
            "boxes": boxes,
            "proposals": boxes,
            "masks": laid(0),
            "semantic": laid(IGNORED),
            "keypoints": _joints(lambda xy: xy + offset),
        },
    )


def _grey(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _brightness(image, amount):
    return image * (1 + amount)


def _contrast(image, amount):
    mean = _grey(image).mean()
    return mean + (image - mean) * (1 + amount)


def _saturation(image, amount):
    grey = _grey(image)[..., None]
    return grey + (image - grey) * (1 + amount)


def _hue(image, amount):
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # hue in degrees for float pictures
    hsv[..., 0] = (hsv[..., 0] + 360 * amount) % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
