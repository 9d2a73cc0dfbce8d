"""Detection sets of TensorFlow Datasets: boxes, which TFDS keeps as shares of the picture, in pixels again."""

from typing import NamedTuple

import numpy as np

from jaxvision.data.images import encoded_size
from jaxvision.data.tfds_source import TfdsSource


class Layout(NamedTuple):
    """How a builder's examples are read.

    objects, file: names of features. label: the class in `objects`; empty: all are the one class `only`. difficult: the
    mark in `objects` of what is neither to be learnt nor scored. first: the number of the first pixel; where it is 1,
    xmin and ymin are of the first pixel inside and xmax, ymax of the last, as VOC counts. upward: y is measured from the
    bottom. flat: boxes without width or height occur, and are left out.
    """

    objects: str
    file: str
    label: str = ""
    only: str = ""
    difficult: str = ""
    first: int = 0
    upward: bool = False
    flat: bool = False


LAYOUTS = {
    "voc": Layout("objects", "image/filename", label="label", difficult="is_difficult", first=1),
    # Faces of no extent are in the annotations, and others become so where TFDS clips them to the picture.
    "wider_face": Layout("faces", "image/filename", only="face", difficult="invalid", flat=True),
    # TFDS turns the boxes upside down, and has no DontCare regions: what is found there counts as wrong.
    "kitti": Layout("objects", "image/file_name", label="type", upward=True),
}


class TfdsDetection(TfdsSource):
    """Random access to one split of a builder in LAYOUTS: image, boxes, classes, image_id (the place in the split), file,
    and `difficult` where the set has such marks.

    Boxes are rounded to a thousandth of a pixel: so those of VOC, WIDER FACE and KITTI come out of TFDS's float32 as they
    went in. The test splits of voc/2012 and wider_face have no truth: their pictures look empty.
    """

    def __init__(self, builder: str, split: str, data_dir: str | None):
        self.layout = LAYOUTS[builder.partition("/")[0]]
        super().__init__(builder, split, data_dir, "image", self.layout.objects)
        names = (self.layout.only,)
        if self.layout.label:
            names = self.builder.info.features[self.layout.objects][self.layout.label].names
        self.class_names = ("background", *names)

    def example(self, i, record):
        objects, image = record[self.layout.objects], record["image"]
        where = self.where(record[self.layout.file].decode())
        height, width = image.shape[:2] if isinstance(image, np.ndarray) else encoded_size(where, image)
        shares = np.asarray(objects["bbox"], np.float64).reshape(-1, 4)
        y1, x1, y2, x2 = np.round(shares * [height, width, height, width], 3).T
        if self.layout.upward:
            y1, y2 = height - y2, height - y1
        boxes = np.stack([x1 - self.layout.first, y1 - self.layout.first, x2, y2], axis=1)
        classes = np.asarray(objects[self.layout.label]) + 1 if self.layout.label else np.ones(len(boxes))
        rows = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) | (not self.layout.flat)
        example = {
            "image_id": int(i),
            "file": where,
            "boxes": boxes[rows].astype(np.float32),
            "classes": classes[rows].astype(np.int32),
        }
        if self.layout.difficult:
            example["difficult"] = np.asarray(objects[self.layout.difficult], bool)[rows]
        return example
