"""ILSVRC's set of classification and localisation (CLS-LOC) as it is handed out: pictures of one class, and boxes of it.

Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015.
"""

import functools
from collections import Counter
from pathlib import Path

import numpy as np

from jaxvision.data.images import encoded_size, read_bytes, read_image
from jaxvision.data.validation import ExampleError
from jaxvision.data.voc import read_split
from jaxvision.data.voc_detection import VocDetection, parse_annotation

MAPPING = "LOC_synset_mapping.txt"


def open_ilsvrc(root, split: str) -> "Ilsvrc":
    """A split of ILSVRC CLS-LOC: root, or ILSVRC in it, has ImageSets/CLS-LOC/SPLIT.txt, Data/CLS-LOC and Annotations/CLS-LOC.

    split: "train_loc", the pictures of training with boxes; "train_cls", all of them, by their labels alone; "val"; or a list
    of one's own beside these, whose names begin with the folder of Data that they lie in, as in train_cls, or are val's.
    The thousand classes are those of LOC_synset_mapping.txt, in its order, which lies in root or beside ILSVRC.
    Raises FileNotFoundError for what is not there, and ValueError for a mapping that names no classes and for the split
    "test", which has no truth. Pictures are looked for when they are read.
    """
    root = Path(root)
    base = root / "ILSVRC" if (root / "ILSVRC").is_dir() else root
    if split == "test":
        raise ValueError("ILSVRC's test pictures have no truth; take 'val', or 'train_loc' to learn from")
    names = [line for line in read_split(base / "ImageSets" / "CLS-LOC", split, ()) if not line.isdecimal()]
    return Ilsvrc(f"ilsvrc/{split}", base, names, read_mapping(root, base), boxes=split != "train_cls")


def read_mapping(root: Path, base: Path) -> dict[str, str]:
    """{synset: the class's name} in the order of the file: the first of the synonyms, with the synset where it comes twice."""
    folders = dict.fromkeys((root, base, base.parent))
    path = next((folder / MAPPING for folder in folders if (folder / MAPPING).is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"there is no {MAPPING} in {', '.join(map(str, folders))}; it comes with the set's boxes"
        )
    pairs = [line.partition(" ") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    firsts = {synset: synonyms.split(",")[0].strip() for synset, _, synonyms in pairs}
    if not firsts or len(firsts) < len(pairs) or not all(firsts.values()):
        raise ValueError(
            f"{path}: expected lines of a synset and its names, 'n01440764 tench, Tinca tinca', each synset once"
        )
    times = Counter(firsts.values())
    return {synset: name if times[name] == 1 else f"{name} {synset}" for synset, name in firsts.items()}


class Ilsvrc(VocDetection):
    """A source of image, label, image_id (the place in the list), file, and, unless it is of labels alone, boxes and classes,
    label + 1 each.

    A picture of training has the class of its folder, another that of its boxes. ILSVRC's pixels count from 0 and xmax, ymax
    are the last ones inside, so that x2 = xmax + 1; boxes are clipped to the size that the XML gives.
    On reading raises ExampleError, which names the XML, where it is broken, contradicts its picture, has an unknown synset,
    another than its folder, several, or no box; ImageError for a picture.
    """

    def __init__(self, name, base: Path, names, classes: dict[str, str], boxes: bool = True):
        data, xml = base / "Data" / "CLS-LOC", base / "Annotations" / "CLS-LOC"
        parts = [entry if "/" in entry else f"val/{entry}" for entry in names]
        parts = [entry if entry.startswith(("train/", "val/")) else f"train/{entry}" for entry in parts]
        files = [xml / f"{entry}.xml" for entry in parts]
        super().__init__(name, ("background", *classes.values()), [data / f"{entry}.JPEG" for entry in parts], files)
        self.synsets, self.boxes = {synset: k for k, synset in enumerate(classes)}, boxes

    def __getitem__(self, i):
        if self.boxes:
            return super().__getitem__(i)
        return {"image": read_image(self.images[i]), **self.annotations(i)}

    def annotations(self, i):
        return self._example(i, parse_annotation(self.files[i]) if self.boxes else None)

    @functools.cached_property
    def sizes(self):
        if self.boxes:
            return super().sizes
        return np.array([encoded_size(image, read_bytes(image)) for image in self.images], int).reshape(-1, 2)

    def _example(self, i, root):
        path, image = self.files[i], self.images[i]
        objects = [] if root is None else [self._object(path, n, node) for n, node in enumerate(root.findall("object"))]
        found = {name for name, *_ in objects}
        folder = {image.parent.name} if image.parent.parent.name == "train" else set()
        where = path if self.boxes else image
        if self.boxes and not objects:
            raise ExampleError(f"{where}: there is no <object> in it; take the picture out of the list")
        if len(found | folder) != 1:
            raise ExampleError(
                f"{where}: a picture is of one class, this one of {', '.join(sorted(found | folder)) or 'none'}"
            )
        (synset,) = found | folder
        if synset not in self.synsets:
            raise ExampleError(f"{where}: {synset!r} is not among the {len(self.synsets)} synsets of {MAPPING}")
        label = self.synsets[synset]
        example = {"image_id": int(self.image_ids[i]), "file": str(image), "label": label}
        if not self.boxes:
            return example
        boxes = np.array([box for _, box, _ in objects], np.float32) + 1  # VOC's begin at 1
        sides = [root.findtext(f"size/{side}") or "0" for side in ("width", "height")]
        if all(side.isdecimal() and int(side) > 0 for side in sides):
            boxes = boxes.clip(0, np.array([*sides, *sides], np.float32))
        return {**example, "boxes": boxes, "classes": np.full(len(boxes), label + 1, np.int32)}
