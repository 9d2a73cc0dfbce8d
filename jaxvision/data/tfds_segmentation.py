"""Segmentation sets of TensorFlow Datasets, read without TensorFlow from what is prepared as ArrayRecord."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxvision.data.geometry import IGNORED
from jaxvision.data.images import ImageError
from jaxvision.data.tfds_source import TfdsSource


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


class TfdsSegmentation(TfdsSource):
    """Random access to one split of a builder in LAYOUTS: image, semantic, image_id (the place in the split) and file.

    Of cityscapes the test split has no truth: all is ignored. Raises ImageError for a mask with a value that its set has not.
    """

    def __init__(self, builder: str, split: str, data_dir: str | None):
        self.layout = LAYOUTS[builder.partition("/")[0]]
        self.class_names = self.layout.classes
        super().__init__(builder, split, data_dir, self.layout.image, self.layout.mask)

    def example(self, i, record):
        file = record[self.layout.file].decode() if self.layout.file else i
        example = {"image_id": int(i), "file": self.where(file)}
        mask = record[self.layout.mask][..., 0]
        table = np.full(256, -1, np.int32)
        table[list(self.layout.numbers)] = list(self.layout.numbers.values())
        semantic = table[mask]
        if (semantic < 0).any():
            wrong = np.unique(mask[semantic < 0])[:5].tolist()
            raise ImageError(f"{example['file']}: {self.layout.mask} holds {wrong}, which are no classes of this set")
        return {**example, "semantic": semantic}
