"""Caltech-UCSD Birds-200-2011 as it is handed out: a bird of one of 200 species in each picture, its box and its mask.

Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, Caltech technical report CNS-TR-2011-001.
"""

import functools
from pathlib import Path

import cv2
import numpy as np

from jaxvision.data.images import decode, encoded_size, read_bytes, read_image

SPLITS = ("train", "test", "all")


def open_cub(root, split: str) -> "Cub":
    """A split of CUB-200-2011: root, or CUB_200_2011 in it, has images.txt, classes.txt, image_class_labels.txt,
    bounding_boxes.txt, train_test_split.txt and images/.

    split: "train", "test" or "all"; "test:masks" gives masks too, from segmentations/, which is handed out by itself and lies
    in root or in CUB_200_2011. Raises FileNotFoundError for a file or folder that is not there, ValueError for another split
    and for lists that are broken or do not go together, which names the file and the line.
    """
    root, (part, _, option) = Path(root), split.partition(":")
    if part not in SPLITS or option not in ("", "masks"):
        raise ValueError(
            f"there is no split {split!r} of CUB; there are {', '.join(SPLITS)}, each perhaps with ':masks'"
        )
    base = root / "CUB_200_2011" if (root / "CUB_200_2011").is_dir() else root
    files = read_list(base / "images.txt", str)
    labels, boxes, training = (
        read_list(base / f"{name}.txt", kind, files, count)
        for name, kind, count in (
            ("image_class_labels", int, 1),
            ("bounding_boxes", float, 4),
            ("train_test_split", int, 1),
        )
    )
    names = read_list(base / "classes.txt", str)
    for number, (label,) in labels.items():
        if label not in names:
            raise ValueError(
                f"{base}/image_class_labels.txt: image {number} is of class {label}, which classes.txt has not"
            )
    order = {number: k for k, number in enumerate(names)}
    rows = [n for n in files if part == "all" or training[n][0] == (part == "train")]
    if not rows:
        raise ValueError(f"{base}/train_test_split.txt: no image is of the split {part!r}")
    folders = [folder for folder in (root / "segmentations", base / "segmentations") if folder.is_dir()]
    if option and not folders:
        raise FileNotFoundError(
            f"there is no folder segmentations in {root} or {base}; fetch it, or leave out ':masks'"
        )
    return Cub(
        f"cub/{split}",
        [name[0].partition(".")[2].replace("_", " ") or name[0] for name in names.values()],
        [base / "images" / files[n][0] for n in rows],
        [order[labels[n][0]] for n in rows],
        np.array([boxes[n] for n in rows]),
        [(folders[0] / files[n][0]).with_suffix(".png") for n in rows] if option else None,
        rows,
    )


def read_list(path: Path, kind, known=None, count: int = 1) -> dict[int, list]:
    """{number: values} of lines such as "1 60.0 27.0 325.0 304.0"; of text there is one value, the rest of the line.

    known: numbers that must be in it, and no others. Raises FileNotFoundError and ValueError, which name file and line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; give the folder of CUB_200_2011")
    found = {}
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        number, _, rest = text.strip().partition(" ")
        parts = [rest] if kind is str else rest.split()
        try:
            number, values = int(number), [kind(part) for part in parts]
        except ValueError:
            number, values = None, []
        if number in {None, *found} or len(values) != count or not rest.strip():
            what = f"{count} {kind.__name__}{'s' * (count > 1)}"
            raise ValueError(f"{path}, line {line}: {text!r} is not a number that is new and {what}")
        found[number] = values
    if known is not None and found.keys() != known.keys():
        number = min(found.keys() ^ known.keys())
        raise ValueError(f"{path} and images.txt do not go together: image {number} is in one of them alone")
    return found


class Cub:
    """A source of image, label (0..199), boxes (1,4), classes (label + 1), image_id (the set's own number), file, and masks
    where they are asked for: 1 where most of those who drew the bird marked it.

    On reading raises ImageError, which names a picture or mask that is missing or broken. That box and mask are of their
    picture is left to `jaxvision.data.validation`.
    """

    keypoint_names = flip_pairs = ()
    sigmas = None

    def __init__(self, name, class_names, images, labels, boxes, masks, numbers):
        self.name, self.class_names = name, ("background", *class_names)
        self.images, self.labels, self.masks = list(images), list(labels), masks
        self.boxes, self.image_ids = boxes, np.array(numbers)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"image": read_image(self.images[i]), **self.annotations(i)}

    def annotations(self, i):
        x, y, width, height = self.boxes[i]
        example = {
            "image_id": int(self.image_ids[i]),
            "file": str(self.images[i]),
            "label": self.labels[i],
            "boxes": np.array([[x, y, x + width, y + height]], np.float32),
            "classes": np.array([self.labels[i] + 1], np.int32),
        }
        if self.masks is None:
            return example
        mask = decode(self.masks[i], read_bytes(self.masks[i]), cv2.IMREAD_GRAYSCALE)
        return {**example, "masks": (mask[None] >= 128).astype(np.uint8)}  # grey is the share of them, of 255

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """(N, 2) heights and widths, from the pictures' headers; read where several canvases ask."""
        return np.array([encoded_size(path, read_bytes(path)) for path in self.images], int).reshape(-1, 2)
