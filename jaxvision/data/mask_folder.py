"""Segmentation sets in files: a picture and a class map of the same size for each example.

A set of one's own is two folders, of pictures and of PNG masks whose names agree; `MaskFiles` serves other layouts too.
"""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxvision.data.geometry import IGNORED
from jaxvision.data.images import ImageError, read_image
from jaxvision.data.index_maps import index_map_size, read_index_map

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
NAMES = "classes.txt"


class MaskFiles:
    """A source of segmentation examples: image, semantic (255 is ignored), image_id (the place in the list), file, mask_file.

    images, masks: paths, in the same order. That a mask is of its image's size and holds known classes alone is left to
    `jaxvision.data.validation`, which names both files. On reading raises ImageError for a file that is missing or broken.
    """

    keypoint_names = flip_pairs = ()
    sigmas = None
    read_map, map_size = staticmethod(read_index_map), staticmethod(index_map_size)

    def __init__(self, name: str, class_names: Sequence[str], images: Sequence[Path], masks: Sequence[Path]):
        self.name, self.class_names = name, tuple(class_names)
        self.images, self.masks = list(images), list(masks)
        self.image_ids = np.arange(len(self.images))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"image": read_image(self.images[i]), **self.annotations(i)}

    def annotations(self, i):
        return {
            "image_id": int(self.image_ids[i]),
            "file": str(self.images[i]),
            "mask_file": str(self.masks[i]),
            **self.maps(i),
        }

    def maps(self, i):
        return {"semantic": self.read_map(self.masks[i])}

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """(N, 2) heights and widths, of the masks: it takes only their headers, and only where several canvases ask."""
        return np.array([self.map_size(path) for path in self.masks], int).reshape(-1, 2)


class LabelFiles(MaskFiles):
    """The same with semantic_labels (H, W, classes): the classes of a pixel, where it may have several.

    masks: for each image a path for each class but 0, the background, which is where no other is. Such a mask is 1 where
    its class is, 0 elsewhere, and 255 where that is not known: there the pixel is ignored. `semantic` is the last class of
    a pixel. On reading raises ImageError, which names the file, also for other values and for masks that differ in size.
    """

    overlapping = True

    def __init__(self, name: str, class_names: Sequence[str], images: Sequence[Path], masks: Sequence[Sequence[Path]]):
        super().__init__(name, class_names, images, [paths[0] for paths in masks])
        self.class_masks = list(masks)

    def maps(self, i):
        maps = [self.read_map(path) for path in self.class_masks[i]]
        for path, values in zip(self.class_masks[i], maps):
            if values.shape != maps[0].shape:
                raise ImageError(f"{path} is {values.shape} pixels, {self.masks[i]} is {maps[0].shape}; give one size")
            if wrong := np.setdiff1d(values, (0, 1, IGNORED)).tolist():
                raise ImageError(f"{path} holds {wrong[0]}; a mask of one class is 0 and 1, and {IGNORED} is ignored")
        maps = np.stack([np.zeros_like(maps[0]), *maps], -1)
        labels, ignored = maps == 1, (maps == IGNORED).any(-1)
        labels[..., 0] = ~labels.any(-1)
        last = (labels * np.arange(labels.shape[-1])).max(-1)
        return {"semantic": np.where(ignored, IGNORED, last).astype(np.int32), "semantic_labels": labels}


def open_folder(images, masks) -> MaskFiles:
    """The pictures of a folder with the PNG masks of the same stem in another.

    A mask's numbers, grey of up to 16 bits or indices of a palette, are classes; 255 is ignored. `classes.txt` beside the
    masks names them, a line each, from class 0 on. Without it they are called "class 0" to the largest in any mask, for
    which every mask is read once; then the folders of training and validation must reach the same class.
    Where `masks` holds folders and no PNG they are classes that may overlap, see `LabelFiles`, each with a mask for every
    picture; behind "background" they come in the order of `classes.txt`, or of their names.
    Raises FileNotFoundError for a folder that is missing, and ValueError for one folder given twice or without pictures,
    for pictures without a mask and masks without a picture, for a stem that comes twice, and for names or numbers that
    cannot be classes.
    """
    images, masks = Path(images), Path(masks)
    if images.resolve() == masks.resolve():
        raise ValueError(f"{images} is given for pictures and for masks; put them into two folders")
    pictures, maps = by_stem(images, SUFFIXES), by_stem(masks, (".png",))
    folders = () if maps else sorted(path.name for path in masks.iterdir() if path.is_dir() and path.name[0] != ".")
    stems = sorted(pictures)
    names = read_names(masks / NAMES) if (masks / NAMES).is_file() else None
    if folders:
        names = names or ["background", *folders]
        if sorted(names[1:]) != folders:
            raise ValueError(
                f"{masks / NAMES} names {some(names)}; expected one for the background, and then those of the folders "
                f"there: {some(folders)}"
            )
        maps = {name: by_stem(masks / name, (".png",)) for name in names[1:]}
        for name in maps:
            _match(images, pictures, masks / name, maps[name])
        paths = [tuple(maps[name][stem] for name in maps) for stem in stems]
        return LabelFiles(images.name, names, [pictures[stem] for stem in stems], paths)
    _match(images, pictures, masks, maps)
    paths = [maps[stem] for stem in stems]
    return MaskFiles(images.name, names or _counted(paths), [pictures[stem] for stem in stems], paths)


def _match(images: Path, pictures: dict[str, Path], masks: Path, maps: dict[str, Path]) -> None:
    """Raises ValueError where there are no pictures or masks, or one of them is without the other."""
    for path, found, kind in (images, pictures, "pictures"), (masks, maps, "PNG masks"):
        if not found:
            raise ValueError(
                f"there are no {kind} in {path}; a set of masks takes a folder of pictures and one of PNGs"
            )
    for these, others, folder, path in (pictures, maps, images, masks), (maps, pictures, masks, images):
        if alone := [these[stem].name for stem in these if stem not in others]:
            raise ValueError(
                f"{path} has no file of the same stem for {some(alone)} in {folder}; add it, or take them out"
            )


def by_stem(folder: Path, suffixes: Iterable[str]) -> dict[str, Path]:
    """The files of a folder that have one of the suffixes, by their stems; hidden ones are passed over."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            if path.stem in files:
                raise ValueError(f"{files[path.stem].name} and {path.name} in {folder} have one stem; rename one")
            files[path.stem] = path
    return files


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def read_names(path: Path) -> list[str]:
    """The names of a list of classes, one a line. Raises ValueError for none, one twice, an empty line or too many."""
    names = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not all(names) or twice or not 0 < len(names) <= IGNORED:
        raise ValueError(
            f"{path}: expected 1 to {IGNORED} different names, one a line; got {len(names)}"
            + (f", of which {some(twice)} come twice" if twice else "")
        )
    return names


def _counted(masks: Sequence[Path]) -> list[str]:
    """ "class 0" to the largest that occurs."""
    largest, where = 0, None
    for path in masks:
        values = read_index_map(path)
        reached = int(values.max(initial=0, where=values != IGNORED))
        if reached > largest:
            largest, where = reached, path
    if largest == 0:
        raise ValueError(
            f"the masks in {masks[0].parent} hold no class but 0, and {IGNORED} is ignored; number the classes 0, 1, ... "
            f"(a foreground of {IGNORED} must become 1), or name them in {NAMES} there"
        )
    if largest > IGNORED:
        raise ValueError(f"{where} holds {largest}; classes are 0..{IGNORED - 1}, and {IGNORED} is ignored")
    return [f"class {k}" for k in range(largest + 1)]
