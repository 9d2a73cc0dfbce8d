"""The embedded data: procedural scenes with boxes, masks, joints and captions, as a TensorFlow Datasets builder.

`scenes/shapes` has 1 to 6 objects of six classes a scene, `scenes/overlapping` says of such scenes also what lies beneath,
`scenes/full` has ten handwritten digits as well, `scenes/single` one object, and `scenes/people` one large person. A scene
is a pure function of (config, split, number, version). Sets are prepared once, as ArrayRecord, and read without TensorFlow.
`open_scenes` gives a source for the loader; the builder also works by itself.
"""

import contextlib
import dataclasses
import functools
import io
import os
import pathlib
import time
import zlib
from typing import ClassVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from jaxvision.data import drawing, person

SHAPES = ("circle", "square", "triangle", "star", "cross", "person")
SPLITS = ("train", "validation", "test")
VERSION = "1.0.0"  # raise it with any change to a pixel or an annotation
MOST = 6  # objects in a scene
COPIES = 10  # of each class in a deck
PICTURES = {"image", "instances", "shapes"}
_ID_STRIDE = 1_000_000  # image ids of different splits never meet


@dataclasses.dataclass(eq=False)
class SceneConfig(tfds.core.BuilderConfig):
    """classes: without background. most: 1 to `most` objects a scene. overlapping: whole shapes of up to 8 classes are kept
    beside what is visible. examples: how many of each split are prepared."""

    classes: tuple[str, ...] = SHAPES
    most: int = MOST
    overlapping: bool = False
    style: drawing.Style = dataclasses.field(default_factory=drawing.Style)
    examples: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"train": 4000, "validation": 500, "test": 500}
    )


CONFIGS = {
    config.name: config
    for config in (
        SceneConfig(
            name="shapes",
            description="Five shapes and a person, 1 to 6 a scene.",
            style=drawing.Style(crowds=0.02),
        ),
        SceneConfig(name="overlapping", description="Five shapes and a person, 1 to 6 a scene.", overlapping=True),
        SceneConfig(
            name="full",
            description="Shapes, persons and ten handwritten digits, 1 to 6 a scene.",
            classes=SHAPES + drawing.DIGITS,
            style=drawing.Style(crowds=0.02),
        ),
        SceneConfig(name="single", description="One shape or person a scene.", most=1),
        SceneConfig(
            name="people",
            description="One person a scene, of 40 to 100 pixels, leaning at most 45 degrees.",
            classes=("person",),
            most=1,
            style=drawing.Style(sizes=(40, 100), lean=np.pi / 4),
        ),
    )
}


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Builder of `scenes`. `examples`, {split: count}, prepares fewer or more scenes than the config says."""

    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS: ClassVar = list(CONFIGS.values())
    code_path = pathlib.Path(__file__)  # TFDS would look it up by importlib_resources, which it does not install

    def __init__(self, *, examples: dict[str, int] | None = None, **arguments):
        self._examples = examples
        super().__init__(**arguments)

    def _info(self) -> tfds.core.DatasetInfo:
        side = drawing.SIDE
        objects = {
            "class": tfds.features.ClassLabel(names=self.builder_config.classes),
            "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),  # x1 y1 x2 y2, pixels
            "area": tfds.features.Scalar(np.float32),  # visible pixels
            "full_area": tfds.features.Scalar(np.float32),  # pixels if nothing lay above
            "crowd": tfds.features.Scalar(np.bool_),
            "joints": tfds.features.Tensor(shape=(len(person.JOINTS), 3), dtype=np.float32),
            "colour": tfds.features.Text(),
            "size": tfds.features.Text(),
            "caption": tfds.features.Text(),
        }
        features = {
            "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
            "instances": tfds.features.Image(shape=(side, side, 1), encoding_format="png"),  # row + 1 of the object
            "image_id": tfds.features.Scalar(np.int64),
            "objects": tfds.features.Sequence(objects),
        }
        if self.builder_config.overlapping:  # bit c is set where an object of class c lies, seen or not
            features["shapes"] = features["instances"]
        return tfds.core.DatasetInfo(
            builder=self,
            description="Procedural scenes of textured, overlapping objects with boxes, masks, joints and captions.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # record i is scene i
        )

    def _split_generators(self, dl_manager):
        examples = self._examples or self.builder_config.examples
        return {split: self._generate_examples(split, count) for split, count in examples.items()}

    def _generate_examples(self, split, count):
        for number in range(count):
            example = scene(self.builder_config, split, number)
            for key in example.keys() & PICTURES:  # encoded here: TFDS would encode arrays by TensorFlow
                example[key] = _png(example[key])
            yield number, example


def _png(picture: np.ndarray) -> bytes:
    if picture.shape[2] == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


# One scene


def _generator(*key) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32("/".join(map(str, (VERSION, *key))).encode()))


@functools.lru_cache(maxsize=64)
def _deck(cards: tuple, *key) -> tuple:
    return tuple(_generator(*key).permutation(cards).tolist())


def deal(config: SceneConfig, split: str, number: int) -> list[str]:
    """The classes of a scene, dealt from shuffled decks, so that classes are all but equally frequent over a split."""
    block, place = divmod(number, config.most)
    counts = _deck(tuple(range(1, config.most + 1)), config.name, split, "counts", block)
    first = block * sum(counts) + sum(counts[:place])
    cards = config.classes * COPIES
    decks = (divmod(card, len(cards)) for card in range(first, first + counts[place]))
    return [_deck(cards, config.name, split, "classes", deck)[row] for deck, row in decks]


def scene(config: SceneConfig, split: str, number: int) -> dict:
    """Scene `number` of a split, a pure function of its arguments' names: the builder's fields, images as arrays."""
    names = deal(config, split, number)
    image, things = drawing.paint(_generator(config.name, split, number), names, config.style, split)
    instances = np.zeros((drawing.SIDE, drawing.SIDE, 1), np.uint8)
    objects = []
    for row, thing in enumerate(things):
        instances[thing.mask] = row + 1
        box = _box(thing.mask)
        size = "small" if thing.size < 32 else "medium" if thing.size < 48 else "large"
        objects.append(
            {
                "class": config.classes.index(thing.name),
                "box": box,
                "area": np.count_nonzero(thing.mask),
                "full_area": np.count_nonzero(thing.coverage >= 0.5),
                "crowd": thing.crowd,
                "joints": thing.keypoints,
                "colour": thing.colour,
                "size": size,
                "caption": f"a {size} {thing.colour} {thing.name}" + (" crowd" if thing.crowd else ""),
            }
        )
    for entry, caption in zip(objects, _relate(objects)):
        entry["caption"] = caption
    image_id = SPLITS.index(split) * _ID_STRIDE + number
    example = {"image": image, "instances": instances, "image_id": image_id, "objects": objects}
    if config.overlapping:
        bits = [(thing.coverage >= 0.5) * np.uint8(1 << config.classes.index(thing.name)) for thing in things]
        example["shapes"] = np.bitwise_or.reduce(bits)[..., None]
    return example


def _box(mask: np.ndarray) -> np.ndarray:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return np.array([x, y, x + width, y + height], np.float32)


def _relate(objects: list[dict]) -> list[str]:
    """Captions that say where an object is from its nearest neighbour, by the centres of their boxes."""
    captions = [entry["caption"] for entry in objects]
    if len(objects) == 1:
        return captions
    centres = np.array([(entry["box"][:2] + entry["box"][2:]) / 2 for entry in objects])
    steps = centres[:, None] - centres
    distances = np.linalg.norm(steps, axis=2) + np.diag(np.full(len(objects), np.inf))
    related = []
    for row, other in enumerate(distances.argmin(1)):
        x, y = steps[row, other]
        relation = ("left of" if x < 0 else "right of") if abs(x) > abs(y) else ("above" if y < 0 else "below")
        related.append(f"{captions[row]} {relation} {captions[other]}")
    return related


# Prepared sets


def prepare(name: str, data_dir: str | None = None, examples: dict[str, int] | None = None) -> Scenes:
    """The builder of a config whose set is on disk, prepared now if it is not there yet: some 40 s on one core.

    data_dir: TFDS's folder, by default ~/tensorflow_datasets. examples: {split: count} other than the config's; a set
    that is there already is taken as it is. Processes may ask at once: each prepares beside the final folder, and the
    first one wins.
    Raises ValueError for a config that does not exist.
    """
    if name not in CONFIGS:
        raise ValueError(f"There is no config {name!r} of scenes. Known: {', '.join(CONFIGS)}.")
    data_dir = os.path.expanduser(data_dir) if data_dir else None

    def builder():
        return Scenes(config=name, data_dir=data_dir, examples=examples)

    scenes = builder()
    if scenes.data_path.exists():
        return scenes
    print(f"Preparing scenes/{name} in {scenes.data_dir} ...", end=" ", flush=True)
    start = time.monotonic()
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download; there is none
            scenes.download_and_prepare(file_format="array_record")
    except OSError:
        if not scenes.data_path.exists():
            raise
    print(f"{time.monotonic() - start:.0f} s", flush=True)
    return builder()


def open_scenes(config: str, split: str, data_dir: str | None = None) -> "SceneSource":
    """A source of `scenes/<config>`, prepared on first use.

    split: "train", "validation" or "test", or a slice as TFDS writes it, "train[:100]".
    Raises ValueError for a config or split that does not exist.
    """
    if split.partition("[")[0] not in SPLITS:
        raise ValueError(
            f"There is no split {split!r} of scenes/{config}. Known: {', '.join(SPLITS)}, and their slices."
        )
    return SceneSource(prepare(config, data_dir), split)


class SceneSource:
    """Random access to one split. A pickled copy opens its files again where it is used.

    Examples have image, image_id, file, boxes, classes, crowd, area, masks, keypoints, captions and semantic (class per
    pixel, 0 = background); with one object a scene also label (0-based, background not counted). Where `overlapping` they
    have semantic_labels: the classes of all objects that cover a pixel, whatever lies on top, and background where none does.
    """

    keypoint_names = person.JOINTS
    flip_pairs = person.FLIP_PAIRS
    sigmas = person.SIGMAS

    def __init__(self, builder: Scenes, split: str):
        self._config, self._split, self._data_dir = builder.builder_config.name, split, str(builder.data_dir_root)
        self.name = f"scenes/{self._config}"
        self.class_names = ("background", *builder.builder_config.classes)
        self.overlapping = builder.builder_config.overlapping
        self.sizes = np.full((builder.info.splits[split].num_examples, 2), drawing.SIDE)

    def __getstate__(self):
        return {key: value for key, value in vars(self).items() if key not in ("_records", "_annotations")}

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> dict:
        record = self._records[self._checked(index)]
        return {"image": record["image"], **self._example(record)}

    def annotations(self, index: int) -> dict:
        """The example without its image, which is not decoded."""
        return self._example(self._annotations[self._checked(index)])

    @functools.cached_property
    def _records(self):
        return self._open()

    @functools.cached_property
    def _annotations(self):
        return self._open(decoders={"image": tfds.decode.SkipDecoding()})

    def _open(self, **options):
        return Scenes(config=self._config, data_dir=self._data_dir).as_data_source(split=self._split, **options)

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}/{self._split} has {len(self)} examples, there is no example {index}.")
        return int(index)

    def _example(self, record: dict) -> dict:
        objects, instances = record["objects"], record["instances"][..., 0]
        classes = np.array(objects["class"], np.int32) + 1
        split, number = divmod(int(record["image_id"]), _ID_STRIDE)
        example = {
            "image_id": int(record["image_id"]),
            "file": f"{self.name}/{SPLITS[split]}#{number}",
            "boxes": np.stack(objects["box"]),
            "classes": classes,
            "crowd": np.stack(objects["crowd"]),
            "area": np.stack(objects["area"]),
            "masks": (instances == np.arange(1, len(classes) + 1)[:, None, None]).astype(np.uint8),
            "keypoints": np.stack(objects["joints"]),
            "captions": [caption.decode() for caption in objects["caption"]],
            "semantic": np.concatenate([[0], classes], dtype=np.int32)[instances],
        }
        if self.overlapping:
            shapes = (record["shapes"] >> np.arange(len(self.class_names) - 1) & 1).astype(bool)
            example["semantic_labels"] = np.concatenate([~shapes.any(-1, keepdims=True), shapes], -1)
        if CONFIGS[self._config].most == 1:
            example["label"] = int(classes[0]) - 1
        return example
