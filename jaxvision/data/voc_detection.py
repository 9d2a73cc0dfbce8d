"""PASCAL VOC's detection sets, and sets of one's own in their form: a picture and an XML file of boxes for each example.

Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010.
"""

import functools
import math
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxvision.data.images import read_image
from jaxvision.data.mask_folder import NAMES, SUFFIXES, read_names
from jaxvision.data.validation import ExampleError
from jaxvision.data.voc import CLASSES, files_of, read_split, year_folder

SIDES = ("xmin", "ymin", "xmax", "ymax")


def open_voc_detection(root, split: str) -> "VocDetection":
    """Splits of VOC's devkit: root has ImageSets/Main/SPLIT.txt, JPEGImages and Annotations.

    root: the folder of a year, or one above it. split: a name, or several as "VOC2007/trainval+VOC2012/trainval", where a
    folder of root may stand before the name. Behind ":empty" pictures whose XML has no object are meant to be there, and
    are learnt from as background; otherwise they are an error.
    Classes are VOC's twenty, or those of classes.txt beside ImageSets, one a line, without the background.
    Raises FileNotFoundError for what is not there, ValueError for pictures of the split without image or XML, a picture
    that comes twice, and years of different classes.
    """
    splits, _, option = split.partition(":")
    if option not in ("", "empty"):
        raise ValueError(f"{split!r}: behind a split of VOC's form may stand ':empty', not {option!r}")
    names, images, annotations = None, [], []
    for part in splits.split("+"):
        folder, _, name = part.strip().rpartition("/")
        year = year_folder(Path(root) / folder, "Main")
        lines = read_split(year / "ImageSets" / "Main", name)
        if "-1" in lines:
            raise ValueError(
                f"{year}/ImageSets/Main/{name}.txt is the list of one class; name a split of all: trainval"
            )
        images += files_of(year / "JPEGImages", lines, ".jpg", *SUFFIXES)
        annotations += files_of(year / "Annotations", lines, ".xml")
        own = class_names(year)
        if names not in (None, own):
            raise ValueError(f"{year} has the classes {', '.join(own[1:])}, the split before it {', '.join(names[1:])}")
        names = own
    path, times = Counter(annotations).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{path.stem} comes {times} times in {splits}; a picture must be given once")
    return VocDetection(f"voc_detection/{splits}", names, images, annotations, empty=option == "empty")


def class_names(year: Path) -> tuple[str, ...]:
    """Background, and VOC's classes or those that the folder lists."""
    if not (year / NAMES).is_file():
        return CLASSES
    return ("background", *(name for name in read_names(year / NAMES) if name != "background"))


class VocDetection:
    """A source of detection examples: image, boxes, classes, difficult, image_id (the place in the list) and file.

    VOC's pixels count from 1 and xmax, ymax are the last ones inside; x1 = xmin - 1 and x2 = xmax are the edges of the same
    pixels, so that VOC's widths, xmax - xmin + 1, are x2 - x1. Fractions, which a few files have, are kept.
    On reading raises ExampleError, which names the XML and the object, for one that is broken or contradicts its picture
    or itself, for an unknown class, and where there is no object, unless `empty`; ImageError for a picture.
    """

    keypoint_names = flip_pairs = ()
    sigmas = None

    def __init__(
        self, name: str, names: Sequence[str], images: Sequence[Path], annotations: Sequence[Path], empty: bool = False
    ):
        self.name, self.class_names, self.empty = name, tuple(names), empty
        self.images, self.files = list(images), list(annotations)
        self.image_ids = np.arange(len(self.images))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, root = read_image(self.images[i]), parse_annotation(self.files[i])
        size = _size(root)
        if size and size != image.shape[:2]:
            raise ExampleError(
                f"{self.files[i]}: its size is {size[0]} x {size[1]}, {self.images[i]} is {image.shape[0]} x "
                f"{image.shape[1]} with its EXIF orientation applied; the boxes are of another picture"
            )
        return {"image": image, **self._example(i, root)}

    def annotations(self, i):
        return self._example(i, parse_annotation(self.files[i]))

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """(N, 2) heights and widths by the XML files, or the pictures of those that give none; read where several
        canvases ask."""
        sizes = [
            _size(parse_annotation(path)) or read_image(image).shape[:2] for path, image in zip(self.files, self.images)
        ]
        return np.array(sizes, int).reshape(-1, 2)

    def _example(self, i, root):
        path = self.files[i]
        # Direct children alone: persons have parts with boxes of their own.
        objects = [self._object(path, n, node) for n, node in enumerate(root.findall("object"))]
        if not objects and not self.empty:
            raise ExampleError(
                f"{path}: there is no <object> in it; take the picture out of the split, or say that such pictures are "
                "background: SPLIT:empty"
            )
        unknown = sorted({name for name, *_ in objects if name not in self.class_names[1:]})
        if unknown:
            raise ExampleError(
                f"{path}: unknown class {', '.join(map(repr, unknown))}; known are {', '.join(self.class_names[1:])}. "
                f"Other classes are named in {NAMES} beside ImageSets, one a line"
            )
        return {
            "image_id": int(self.image_ids[i]),
            "file": str(self.images[i]),
            "boxes": np.array([box for _, box, _ in objects], np.float32).reshape(-1, 4),
            "classes": np.array([self.class_names.index(name) for name, *_ in objects], np.int32),
            "difficult": np.array([difficult for *_, difficult in objects], bool),
        }

    @staticmethod
    def _object(path, n, node):
        """The name, box and difficulty of an object."""
        name = (node.findtext("name") or "").strip()
        where = f"{path}: object {n} ({name or 'without a name'})"
        sides = {side: node.findtext(f"bndbox/{side}") for side in SIDES}
        try:
            left, top, right, bottom = (float(text) for text in sides.values())
            difficult = int(node.findtext("difficult") or 0)
        except (TypeError, ValueError):
            raise ExampleError(
                f"{where}: its bndbox is {sides}, difficult {node.findtext('difficult')!r}; expected four numbers of "
                "pixels, and 0 or 1"
            ) from None
        box = [left - 1, top - 1, right, bottom]
        if not all(map(math.isfinite, box)) or not (box[0] < box[2] and box[1] < box[3]):
            raise ExampleError(f"{where}: its bndbox {sides} holds no pixel; correct or remove it")
        return name, box, difficult != 0


def parse_annotation(path) -> ElementTree.Element:
    """The root of an XML file of VOC's form. Raises ExampleError, which names it, for another file."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, LookupError, ValueError) as error:  # an unknown encoding is a LookupError
        raise ExampleError(f"{path}: not an XML file that can be read ({error})") from error
    if root.tag != "annotation":
        raise ExampleError(f"{path}: its root is <{root.tag}>, expected <annotation>, as VOC has it")
    return root


def _size(root) -> tuple[int, int] | None:
    """Height and width, or None where the file gives none; some tools write 0."""
    try:
        size = int(root.findtext("size/height")), int(root.findtext("size/width"))
    except (TypeError, ValueError):
        return None
    return size if min(size) > 0 else None
