"""Region proposals: boxes that may hold an object of any class, found in the picture alone."""

import ctypes
import dataclasses
import os
import threading
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from jaxvision.suggest import suggest

_SEARCH = threading.Lock()  # OpenCV orders boxes by C's rand(), of which a process has one


@dataclasses.dataclass(frozen=True)
class SelectiveSearch:
    """Selective Search (Uijlings et al., IJCV 2013) by OpenCV; the defaults are R-CNN's "fast mode".

    strategy: "fast", "quality", or "single", one segmentation and one grouping. base_k, inc_k: the threshold of the first
    segmentation (Felzenszwalb & Huttenlocher, IJCV 2004) and what each further one adds; the greater, the fewer and larger
    the first regions. sigma: of the blur before it. width: pixels that the picture is scaled to before the search, its
    shape kept; 0 leaves it. min_size: shortest side of a box, in pixels of the picture as it is searched. count: boxes that
    are kept, the first in the order of merging times a random number, in which `seed` makes it repeatable.

    Called with an image (H,W,3), uint8 or float in 0..1, it gives boxes (n,4) float32, x1 y1 x2 y2 in its pixels, best first.
    Raises ValueError for settings that cannot be meant.
    """

    strategy: str = "fast"
    base_k: int = 50
    inc_k: int = 50
    sigma: float = 0.8
    width: int = 500
    min_size: int = 20
    count: int = 2000
    seed: int = 0

    def __post_init__(self):
        known = ("single", "fast", "quality")
        if self.strategy not in known:
            raise ValueError(
                f"selective_search: strategy {self.strategy!r} is not known; {suggest(self.strategy, known)}"
            )
        if min(self.base_k, self.inc_k, self.count) < 1 or min(self.width, self.min_size) < 0 or self.sigma <= 0:
            raise ValueError(
                f"selective_search: base_k, inc_k, count and sigma are positive, width not negative: {self}"
            )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        picture = np.ascontiguousarray(_as_uint8(image)[..., ::-1])
        if self.width and self.width != width:
            size = self.width, max(1, round(height * self.width / width))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
        with _SEARCH:
            search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
            search.setBaseImage(picture)
            if self.strategy == "single":
                search.switchToSingleStrategy(self.base_k, self.sigma)
            elif self.strategy == "fast":
                search.switchToSelectiveSearchFast(self.base_k, self.inc_k, self.sigma)
            else:
                search.switchToSelectiveSearchQuality(self.base_k, self.inc_k, self.sigma)
            _C.srand(self.seed + 1)  # C takes 0 for 1
            found = search.process()
        found = np.asarray(found, np.float32).reshape(-1, 4)
        found = found[(found[:, 2:] >= self.min_size).all(1)][: self.count]
        corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], 1)
        ratio = np.array([width / picture.shape[1], height / picture.shape[0]] * 2, np.float32)
        return np.clip(corners * ratio, 0, np.array([width, height] * 2, np.float32))


_C = ctypes.CDLL("msvcrt" if os.name == "nt" else None)


@dataclasses.dataclass(frozen=True)
class SlidingBoxes:
    """Boxes of a few sizes and forms laid evenly over the picture: what a sliding window sees.

    sides: square roots of the boxes' areas, as shares of the picture's shorter side. ratios: height / width. step: from
    box to box, as a share of its side, at most. count: boxes that are kept of all, in an order drawn by `seed`, so that the
    first of them are spread over picture and sizes. Called as `SelectiveSearch` is.
    Raises ValueError for settings that cannot be meant.
    """

    sides: Sequence[float] = (0.125, 0.25, 0.5, 1.0)
    ratios: Sequence[float] = (0.5, 1.0, 2.0)
    step: float = 0.5
    count: int = 2000
    seed: int = 0

    def __post_init__(self):
        if not self.sides or not self.ratios or min(*self.sides, *self.ratios, self.step, self.count) <= 0:
            raise ValueError(f"sliding_boxes: sides, ratios, step and count are positive: {self}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        boxes = []
        for side in np.array(self.sides) * min(height, width):
            for ratio in self.ratios:
                h, w = min(side * ratio**0.5, height), min(side / ratio**0.5, width)
                tops, lefts = (
                    np.linspace(0, extent - own, int(np.ceil((extent - own) / (self.step * own) - 1e-6)) + 1)
                    for extent, own in ((height, h), (width, w))
                )
                boxes += [(x, y, x + w, y + h) for y in tops for x in lefts]
        boxes = np.unique(np.array(boxes, np.float32), axis=0)
        return boxes[np.random.default_rng(self.seed).permutation(len(boxes))][: self.count]


METHODS = {"selective_search": SelectiveSearch, "sliding_boxes": SlidingBoxes}
Method = Callable[[np.ndarray], np.ndarray]


def build(settings: Mapping) -> SelectiveSearch | SlidingBoxes:
    """The method that `data.proposals` names: dict(method="selective_search", count=300, ...).

    Raises ValueError for an unknown method or setting and suggests the nearest.
    """
    settings = dict(settings)
    name = settings.pop("method", "")
    if name not in METHODS:
        raise ValueError(f"data.proposals: there is no method {name!r}; {suggest(name, METHODS)}")
    known = [field.name for field in dataclasses.fields(METHODS[name])]
    for setting in settings:
        if setting not in known:
            raise ValueError(f"data.proposals: {name} has no setting {setting!r}; {suggest(setting, known)}")
    return METHODS[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})


def _as_uint8(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
