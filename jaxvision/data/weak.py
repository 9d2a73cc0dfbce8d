"""Weak supervision: the labels of a training set made fewer, coarser or wrong.

The kinds are those of Zhou, "A brief introduction to weakly supervised learning", National Science Review 2018. What happens
to an image depends on the seed and its id alone: the same images stay without labels and the same labels are wrong in every
epoch and process, and those of a smaller amount are among those of a larger one.
"""

import dataclasses
import functools
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxvision.data.geometry import IGNORED, pieces
from jaxvision.data.sources import Source, image_labels, label_names, rows_by_id
from jaxvision.data.wrapper import Wrapper
from jaxvision.suggest import suggest

LEVELS = ("image", "box")
IMAGE_LEVEL = (
    "image",
    "image_id",
    "file",
    "proposals",
    "label",
    "labels",
)  # what image-level labels leave of an example


def _generator(kind: str, seed: int, image_id: int) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{kind}/{seed}/{image_id}".encode()))


@dataclasses.dataclass(frozen=True)
class Incomplete:
    """A share of the images has labels, at least one; the others are left out, as no loss here learns from a bare picture."""

    share: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ValueError(f"data.weak: incomplete's share is {self.share}, expected above 0 and at most 1")

    def kept(self, image_ids: Sequence[int]) -> np.ndarray:
        """The rows that keep their labels, rising."""
        lots = [_generator("incomplete", self.seed, image_id).random() for image_id in image_ids]
        return np.sort(np.argsort(lots, kind="stable")[: max(1, round(self.share * len(lots)))])


@dataclasses.dataclass(frozen=True)
class Inaccurate:
    """Each class label is, at a rate, another one, all others as likely: `label`, the `classes` of objects, `labels`, `semantic`.

    Wherever an object's class shows it changes alike: in `labels`, and in `semantic` under its mask. In a set without objects
    all pixels of a class in an image change together, and each of its `labels`. The background stays what it is.
    """

    rate: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.rate <= 1:
            raise ValueError(f"data.weak: inaccurate's rate is {self.rate}, expected 0..1")

    def __call__(self, example: Mapping, source: Source) -> dict:
        example, first = dict(example), int(source.class_names[0] == "background")
        flip = functools.partial(self._flip, example["image_id"])
        if "label" in example:
            example["label"] = int(flip([example["label"]], len(label_names(source)))[0])
        count = len(source.class_names) - first
        if "classes" in example:  # of detection: 0 is background whatever it is called
            old = np.asarray(example["classes"], np.int32)
            new = flip(old - 1, len(source.class_names) - 1) + 1
            example["classes"] = new.astype(np.int32)
            if "labels" in example:
                example["labels"] = _present(new - 1, len(example["labels"]))
            if "semantic" in example and "masks" in example:
                semantic = example["semantic"].copy()
                for mask, before, after in zip(example["masks"], old, new):
                    semantic[(mask > 0) & (example["semantic"] == before)] = after
                return example | {"semantic": semantic}
        elif "labels" in example:
            there = np.flatnonzero(example["labels"])
            example["labels"] = _present(flip(there, len(example["labels"])), len(example["labels"]))
        if "semantic" in example:
            table = np.arange(IGNORED + 1)
            there = np.setdiff1d(np.unique(example["semantic"]), [IGNORED, *range(first)])
            table[there] = flip(there - first, count) + first
            example["semantic"] = table[example["semantic"]].astype(np.int32)
        return example

    def _flip(self, image_id: int, values, count: int) -> np.ndarray:
        """Values (N,) in 0..count-1, some of them another one. The i-th has the same lot in every field."""
        values = np.asarray(values)
        if count < 2:
            raise ValueError(f"data.weak: of {count} class there is no other that a label could be taken for")
        lots = _generator("inaccurate", self.seed, image_id).random((len(values), 2))
        other = (values + 1 + (lots[:, 1] * (count - 1)).astype(int)) % count
        return np.where(lots[:, 0] < self.rate, other, values)


@dataclasses.dataclass(frozen=True)
class Inexact:
    """Coarser labels for tasks of pixels.

    level "box": an object's mask is all of its box, and so is the semantic map, where the smaller box lies on top (Khoreva et
      al., "Simple Does It", CVPR 2017); all else is background. In a set without boxes they are those around each connected
      piece of a class.
    level "image": which classes there are, `labels` (K,) bool, `label` where the set has it, and nothing else.
    """

    level: str = "image"

    def __post_init__(self):
        if self.level not in LEVELS:
            raise ValueError(f"data.weak: inexact's level {self.level!r} is not one of {', '.join(LEVELS)}")

    def __call__(self, example: Mapping, source: Source) -> dict:
        if self.level == "image":
            return self._image(example, source)
        if not {"masks", "semantic"} & example.keys():
            return dict(example)  # boxes are all that it has
        if source.class_names[0] != "background":
            raise ValueError(f"data.weak: the classes of {source.name} have no background to lie around boxes")
        example = dict(example)
        size = example["semantic"].shape if "semantic" in example else np.shape(example["masks"])[1:]
        boxes, classes = (example["boxes"], example["classes"]) if "boxes" in example else pieces(example["semantic"])
        filled = _fill(boxes, *size)
        if "masks" in example:
            example["masks"], example["area"] = filled, filled.sum((1, 2)).astype(np.float32)
        if "semantic" in example:
            semantic = np.zeros(size, np.int32)
            for i in np.argsort(-filled.sum((1, 2)), kind="stable"):
                semantic[filled[i] > 0] = classes[i]
            example["semantic"] = semantic
        return example

    def _image(self, example: Mapping, source: Source) -> dict:
        kept = {name: example[name] for name in IMAGE_LEVEL if name in example}
        if "labels" not in kept:
            count = len(label_names(source))
            if "classes" in example or "label" in example:
                shown = image_labels(example)
            else:
                shift = len(source.class_names) - count
                shown = np.setdiff1d(np.unique(example["semantic"]), [IGNORED, *range(shift)]) - shift
            kept["labels"] = _present(shown, count)
        return kept


def _present(values, count: int) -> np.ndarray:
    return np.isin(np.arange(count), values)


def _fill(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N,H,W) uint8: 1 at the pixels whose centre lies in the box."""
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    x1, y1, x2, y2 = np.asarray(boxes, np.float32).reshape(-1, 4).T[..., None]
    rows, columns = (y >= y1) & (y < y2), (x >= x1) & (x < x2)
    return (rows[:, :, None] & columns[:, None, :]).astype(np.uint8)


KINDS = {"incomplete": Incomplete, "inaccurate": Inaccurate, "inexact": Inexact}  # in the order in which they act


def weaken(source: Source, settings: Mapping[str, Mapping]) -> Source:
    """The source with weaker labels; none: the source as it is.

    settings: kinds with their arguments, e.g. dict(incomplete=dict(share=0.1), inexact=dict(level="box")).
    Raises ValueError for an unknown kind or argument, values that cannot be meant, and a set of overlapping labels.
    """
    if not settings:
        return source
    for kind, arguments in settings.items():
        if kind not in KINDS:
            raise ValueError(f"data.weak: there is no kind {kind!r}; {suggest(kind, KINDS)}")
        known = [field.name for field in dataclasses.fields(KINDS[kind])]
        for name in arguments:
            if name not in known:
                raise ValueError(f"data.weak: {kind} has no argument {name!r}; {suggest(name, known)}")
    steps = [KINDS[kind](**settings[kind]) for kind in KINDS if kind in settings]
    kept = None
    if isinstance(steps[0], Incomplete):
        ids = list(rows_by_id(source))
        kept, steps = steps[0].kept(ids), steps[1:]
    if steps and getattr(source, "overlapping", False):
        raise ValueError(f"data.weak: overlapping labels, as {source.name} has them, can be made incomplete alone")
    return WeakSource(source, steps, kept)


class WeakSource(Wrapper):
    """A source with weaker labels. kept: the rows of the other that it has; None: all."""

    def __init__(self, source: Source, steps: Sequence, kept: np.ndarray | None = None):
        super().__init__(source)
        self.steps, self.kept = tuple(steps), np.arange(len(source)) if kept is None else kept

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> dict:
        return self._weak(self.source[int(self.kept[index])])

    def annotations(self, index: int) -> dict:
        return self._weak(self.source.annotations(int(self.kept[index])))

    @functools.cached_property
    def sizes(self) -> np.ndarray | None:
        """(N, 2) heights and widths; some sources read their files for them, so only where several canvases ask."""
        return None if self.source.sizes is None else np.asarray(self.source.sizes)[self.kept]

    @property
    def image_ids(self) -> list[int]:
        ids = list(rows_by_id(self.source))
        return [ids[row] for row in self.kept]

    def _weak(self, example: Mapping) -> dict:
        for step in self.steps:
            example = step(example, self)
        return example
