"""Classification sets of TensorFlow Datasets, read without TensorFlow from what is prepared as ArrayRecord."""

from typing import NamedTuple

import numpy as np

from jaxvision.data.images import encoded_size
from jaxvision.data.tfds_source import TfdsSource


class Layout(NamedTuple):
    """How a builder's examples are read, beside `image` and `label`.

    file: the feature that names an example, if there is one. box: the feature that is the box of its one object.
    """

    file: str = ""
    box: str = ""


LAYOUTS = {
    "caltech_birds2011": Layout("image/filename", "bbox"),
    "cifar10": Layout("id"),
    "cifar100": Layout("id"),
    "imagenet2012": Layout("file_name"),
    "imagenette": Layout(),
}


class TfdsClassification(TfdsSource):
    """Random access to one split of a builder in LAYOUTS: image, label, image_id (the place in the split) and file.

    Of caltech_birds2011 also the bird's box, in pixels, with its class: its `class_names` therefore begin with the background,
    which a classifier leaves out. imagenet2012 and imagenette call their classes by WordNet's numbers, as TFDS has them.
    imagenet2012's test split has no labels: they are -1, which is an error where an example is checked.
    """

    def __init__(self, builder: str, split: str, data_dir: str | None):
        self.layout = LAYOUTS[builder.partition("/")[0]]
        super().__init__(builder, split, data_dir, "image", "label")
        names = tuple(self.builder.info.features["label"].names)
        self.class_names = ("background", *names) if self.layout.box else names

    def example(self, i, record):
        file = record[self.layout.file].decode() if self.layout.file else i
        example = {"image_id": int(i), "file": self.where(file), "label": int(record["label"])}
        if not self.layout.box:
            return example
        image = record["image"]
        height, width = image.shape[:2] if isinstance(image, np.ndarray) else encoded_size(example["file"], image)
        y1, x1, y2, x2 = np.float64(record[self.layout.box]) * [height, width, height, width]
        boxes = np.round([[x1, y1, x2, y2]], 3).astype(np.float32)
        return {**example, "boxes": boxes, "classes": np.array([example["label"] + 1], np.int32)}
