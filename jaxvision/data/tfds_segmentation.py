"""Segmentation sets of TensorFlow Datasets, read without TensorFlow from what is prepared as ArrayRecord."""

import functools
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from jaxvision.data.geometry import IGNORED
from jaxvision.data.images import ImageError


class Layout(NamedTuple):
    """How a builder's examples are read.

    image, mask: names of features. classes: their names. numbers: the mask's values to classes or 255; another value is
    an error. file: the feature that names an example, if there is one.
    """

    image: str
    mask: str
    classes: tuple[str, ...]
    numbers: Mapping[int, int]
    file: str = ""


# Cityscapes' classes that are scored, by their label ids; the other ids are ignored, and 255, -1 in eight bits.
_CITYSCAPES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light", 20: "traffic sign",
    21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train",
    32: "motorcycle", 33: "bicycle",
}  # fmt: skip
# Of `scene_parse150` TFDS has the annotations of the instance task of Places Challenge 2017: 100 kinds of things by the
# first channel (the second counts instances), 0 for all else. The 150 classes of scene parsing are not in it.
_THINGS = (
    "bed", "windowpane", "cabinet", "person", "door", "table", "curtain", "chair", "car", "painting", "sofa", "shelf",
    "mirror", "armchair", "seat", "fence", "desk", "wardrobe", "lamp", "bathtub", "railing", "cushion", "box", "column",
    "signboard", "chest of drawers", "counter", "sink", "fireplace", "refrigerator", "stairs", "case", "pool table",
    "pillow", "screen door", "bookcase", "coffee table", "toilet", "flower", "book", "bench", "countertop", "stove",
    "palm", "kitchen island", "computer", "swivel chair", "boat", "arcade machine", "bus", "towel", "light", "truck",
    "chandelier", "awning", "streetlight", "booth", "television receiver", "airplane", "apparel", "pole", "bannister",
    "ottoman", "bottle", "van", "ship", "fountain", "washer", "plaything", "stool", "barrel", "basket", "bag", "minibike",
    "oven", "ball", "food", "step", "trade name", "microwave", "pot", "animal", "bicycle", "dishwasher", "screen",
    "sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "plate", "monitor",
    "bulletin board", "radiator", "glass", "clock", "flag",
)  # fmt: skip
LAYOUTS = {
    "oxford_iiit_pet": Layout(
        "image", "segmentation_mask", ("pet", "background", "border"), {1: 0, 2: 1, 3: 2}, "file_name"
    ),
    "cityscapes": Layout(
        "image_left",
        "segmentation_label",
        tuple(_CITYSCAPES.values()),
        dict.fromkeys([*range(34), 255], IGNORED) | {label: k for k, label in enumerate(_CITYSCAPES)},
        "image_id",
    ),
    "scene_parse150": Layout("image", "annotation", _THINGS, {0: IGNORED} | {k + 1: k for k in range(len(_THINGS))}),
}


def open_tfds(builder: str, split: str, data_dir: str | None = None) -> "TfdsSegmentation":
    """A source of a split of a prepared builder: oxford_iiit_pet, cityscapes or scene_parse150.

    builder: its name, "cityscapes/semantic_segmentation" to choose a config. split: a name, or a slice as TFDS writes it.
    data_dir: TFDS's folder, by default ~/tensorflow_datasets. Of cityscapes the test split has no truth: all is ignored.
    Raises ValueError for another builder or split, or one prepared in another file format, and FileNotFoundError, which says
    how to prepare it, for one that is not there.
    """
    name = builder.partition("/")[0]
    if name not in LAYOUTS:
        raise ValueError(f"There is no segmentation set {builder!r} of TFDS here. Known: {', '.join(LAYOUTS)}.")
    return TfdsSegmentation(builder, split, os.path.expanduser(data_dir) if data_dir else None)


class TfdsSegmentation:
    """Random access to one split: image, semantic, image_id (the place in the split) and file.

    A pickled copy opens its files again where it is used. Raises ImageError for a mask with a value that its set has not.
    """

    keypoint_names = flip_pairs = ()
    sigmas = sizes = None

    def __init__(self, builder: str, split: str, data_dir: str | None):
        self._builder, self._split, self._data_dir = builder, split, data_dir
        self.layout = LAYOUTS[builder.partition("/")[0]]
        self.name, self.class_names = f"tfds/{builder}", self.layout.classes
        self.image_ids = np.arange(len(self._records))

    def __getstate__(self):
        return {key: value for key, value in vars(self).items() if key not in ("_records", "_annotations")}

    def __len__(self):
        return len(self.image_ids)

    def __getitem__(self, i):
        record = self._records[int(i)]
        return {"image": record[self.layout.image], **self._example(i, record)}

    def annotations(self, i):
        """The example without its image, which is not decoded."""
        return self._example(i, self._annotations[int(i)])

    @functools.cached_property
    def _records(self):
        return self._open()

    @functools.cached_property
    def _annotations(self):
        return self._open(decoders={self.layout.image: tfds.decode.SkipDecoding()})

    def _open(self, **options):
        builder = tfds.builder(self._builder, data_dir=self._data_dir)
        if self.layout.mask not in builder.info.features:
            raise ValueError(f"{self._builder} has no {self.layout.mask}; take another config of it")
        try:
            return builder.as_data_source(split=self._split, **options)
        except (ValueError, NotImplementedError) as error:
            if not builder.data_path.exists():
                raise FileNotFoundError(f"{self._builder} is not there. {_how_to_prepare(builder)}") from error
            if isinstance(error, ValueError):
                raise  # an unknown split: TFDS names those that exist
            raise ValueError(
                f"{builder.data_path} is in the format {builder.info.file_format.value}, which has no random access: "
                f"remove it, or take another data.dir. {_how_to_prepare(builder)}"
            ) from error

    def _example(self, i, record):
        file = record[self.layout.file].decode() if self.layout.file else i
        example = {"image_id": int(i), "file": f"{self.name}/{self._split}#{file}"}
        mask = record[self.layout.mask][..., 0]
        table = np.full(256, -1, np.int32)
        table[list(self.layout.numbers)] = list(self.layout.numbers.values())
        semantic = table[mask]
        if (semantic < 0).any():
            wrong = np.unique(mask[semantic < 0])[:5].tolist()
            raise ImageError(f"{example['file']}: {self.layout.mask} holds {wrong}, which are no classes of this set")
        return {**example, "semantic": semantic}


def _how_to_prepare(builder) -> str:
    root, manual = builder.data_dir_root, builder.MANUAL_DOWNLOAD_INSTRUCTIONS or ""
    if manual:
        manual = f"{' '.join(manual.split())} Put them into {os.path.join(root, 'downloads', 'manual')}. "
    name = "/".join(builder.info.full_name.split("/")[:-1])  # without its version
    return (
        f'{manual}Prepare it once, where TensorFlow is installed (reading does not take it): python -c "import '
        f"tensorflow_datasets as tfds; tfds.builder('{name}', data_dir='{root}')"
        ".download_and_prepare(file_format='array_record')\""
    )
