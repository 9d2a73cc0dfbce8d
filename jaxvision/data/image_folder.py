"""Classification sets in files: folders of pictures, one a class, or one folder with a table of its pictures' classes."""

import csv
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxvision.data.images import encoded_size, read_bytes, read_image
from jaxvision.data.mask_folder import SUFFIXES, some


class LabelledFiles:
    """A source of classification examples: image, image_id (the place in the list), file, and `label` or `labels`.

    images: paths. truths: each one's label, a whole number, or labels (K,) bool. On reading raises ImageError, which names
    the file, for one that is missing or broken.
    """

    keypoint_names = flip_pairs = ()
    sigmas = None

    def __init__(self, name: str, class_names: Sequence[str], images: Sequence[Path], truths: Sequence):
        self.name, self.class_names = name, tuple(class_names)
        self.images, self.truths = list(images), list(truths)
        self.image_ids = np.arange(len(self.images))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"image": read_image(self.images[i]), **self.annotations(i)}

    def annotations(self, i):
        truth = self.truths[i]
        name = "labels" if isinstance(truth, np.ndarray) else "label"
        return {"image_id": int(self.image_ids[i]), "file": str(self.images[i]), name: truth}

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """(N, 2) heights and widths; each file is looked at, and only where several canvases ask."""
        return np.array([encoded_size(path, read_bytes(path)) for path in self.images], int).reshape(-1, 2)


def open_image_folder(root) -> LabelledFiles:
    """A folder with a folder of pictures for each class, which may lie in folders of their own again.

    Classes are the names of the folders, in their order; hidden ones, and files that are no pictures by their suffix, are
    passed over, as torchvision's ImageFolder does. Raises FileNotFoundError for a folder that is missing, and ValueError
    for fewer than two classes and for a class without pictures.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        raise ValueError(
            f"{root} has {f'one folder, {names[0]!r}' if names else 'no folder'} in it, and a classifier needs two classes "
            "or more: give it a folder of pictures for each, or name IMAGES:MASKS to segment or IMAGES:TABLE.csv"
        )
    images = [sorted(path for path in (root / name).rglob("*") if _is_picture(path, root)) for name in names]
    if empty := [name for name, paths in zip(names, images) if not paths]:
        raise ValueError(
            f"{root} has no pictures ({', '.join(SUFFIXES)}) of {some(empty)}; add some, or take the folder away"
        )
    labels = [k for k, paths in enumerate(images) for _ in paths]
    return LabelledFiles(root.name, names, [path for paths in images for path in paths], labels)


def _is_picture(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def open_image_table(images, table) -> LabelledFiles:
    """The pictures of a folder that a CSV table lists, each with any number of classes.

    The table's head is a name for the first column, of files relative to the folder, then the names of the classes; below,
    each class's cell is 1 where the picture shows it, else 0. Raises FileNotFoundError for a folder, a table or a listed
    file that is missing, and ValueError for an empty table, a class or a file that comes twice, and other cells.
    """
    images, table = Path(images), Path(table)
    if not images.is_dir():
        raise FileNotFoundError(f"there is no folder {images}")
    with open(table, newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    names = [name.strip() for name in rows[0][1:]] if rows else []
    if len(rows) < 2 or not names or not all(names) or len(set(names)) < len(names):
        raise ValueError(
            f"{table}: expected a first line of 'file' and the classes' names, each once, and a line for each picture; got "
            f"{len(rows)} lines and the classes {some(names) or 'none'}"
        )
    paths, truths = {}, []
    for number, (file, *cells) in enumerate(rows[1:], 2):
        cells = [cell.strip() for cell in cells]
        if len(cells) != len(names) or not set(cells) <= {"0", "1"}:
            raise ValueError(
                f"{table}, row {number} ({file}): expected {len(names)} cells of 0 or 1, got {some(cells)}"
            )
        if file in paths:
            raise ValueError(
                f"{table}, row {number}: {file} is listed in row {paths[file]} already; take one of them out"
            )
        if not (images / file).is_file():
            raise FileNotFoundError(f"{table}, row {number}: there is no file {images / file}")
        paths[file] = number
        truths.append(np.array([cell == "1" for cell in cells]))
    return LabelledFiles(images.name, names, [images / file for file in paths], truths)
