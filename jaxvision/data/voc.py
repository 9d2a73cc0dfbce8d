"""PASCAL VOC's segmentation sets, and the Semantic Boundaries Dataset, which marks more of the same pictures.

Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010; Hariharan et al., Semantic Contours from Inverse
Detectors, ICCV 2011.
"""

from pathlib import Path

import numpy as np

from jaxvision.data.images import ImageError
from jaxvision.data.mask_folder import MaskFiles, by_stem, some

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def open_voc(root, split: str) -> MaskFiles:
    """A split of VOC's devkit: root has ImageSets/Segmentation/SPLIT.txt, JPEGImages and SegmentationClass.

    root: the folder of a year, or one above it if it holds a single year. Masks are PNGs whose index of the palette is
    the class; 255, the border around objects, is ignored.
    Raises FileNotFoundError for what is not there, ValueError for pictures of the split without image or mask.
    """
    root = year_folder(Path(root), "Segmentation")
    names = read_split(root / "ImageSets" / "Segmentation", split)
    images, masks = files_of(root / "JPEGImages", names, ".jpg"), files_of(root / "SegmentationClass", names, ".png")
    return MaskFiles(f"voc/{split}", CLASSES, images, masks)


def open_sbd(root, split: str) -> MaskFiles:
    """A split of the Semantic Boundaries Dataset: root, or `dataset` in it, has SPLIT.txt, img/*.jpg and cls/*.mat.

    Nothing is ignored: the set marks no borders. Raises as `open_voc`.
    """
    root = Path(root)
    root = root if (root / "cls").is_dir() else root / "dataset"
    names = read_split(root, split)
    images, masks = files_of(root / "img", names, ".jpg"), files_of(root / "cls", names, ".mat")
    return SbdFiles(f"sbd/{split}", CLASSES, images, masks)


def read_gtcls(path) -> np.ndarray:
    """(H, W) int32: the class map of a .mat of SBD. Raises ImageError, which names a file that holds none."""
    from scipy.io import loadmat  # scipy comes with scikit-learn and jax

    try:
        # MATLAB's struct of one element is an array (1, 1) of records.
        return loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0].astype(np.int32)
    except Exception as error:  # a broken file may raise anything: zlib's, struct's, MATLAB's own
        raise ImageError(f"{path}: no class map of SBD, GTcls.Segmentation, can be read ({error!r})") from error


class SbdFiles(MaskFiles):
    """The same of .mat files, which tell a size only when read."""

    read_map = staticmethod(read_gtcls)
    map_size = staticmethod(lambda path: read_gtcls(path).shape)


def year_folder(root: Path, task: str) -> Path:
    """The folder of a year at root or below, one with ImageSets/TASK. Raises FileNotFoundError, or ValueError for several."""
    found = [root, *sorted(root.glob("VOC*")), *sorted(root.glob("VOCdevkit/VOC*"))]
    found = [folder for folder in found if (folder / "ImageSets" / task).is_dir()]
    if not found:
        raise FileNotFoundError(
            f"there is no ImageSets/{task} in {root}; give the folder of a year of the devkit, VOCdevkit/VOC2012"
        )
    if len(found) > 1 and found[0] != root:
        raise ValueError(f"{root} holds {', '.join(folder.name for folder in found)}; give the folder of one of them")
    return found[0]


def read_split(folder: Path, split: str, classes=CLASSES) -> list[str]:
    """The names that SPLIT.txt lists. Raises FileNotFoundError, which names the splits there are, and ValueError for none.

    classes: that have lists of their own beside those of the set, cat_train.txt, which are no splits.
    """
    path = folder / f"{split}.txt"
    if not path.is_file():
        known = [p.stem for p in folder.glob("*.txt") if not p.stem.startswith(tuple(f"{c}_" for c in classes))]
        raise FileNotFoundError(
            f"there is no split {split!r} in {folder}; there are: {some(sorted(known), 20) or 'none'}"
        )
    names = path.read_text().split()
    if not names:
        raise ValueError(f"{path} lists no images")
    return names


def files_of(folder: Path, names: list[str], *suffixes: str) -> list[Path]:
    """The files of those names, with one of the suffixes. Raises ValueError, which names those that are not there."""
    files = by_stem(folder, suffixes)
    if missing := [name + suffixes[0] for name in names if name not in files]:
        raise ValueError(f"{len(missing)} of {len(names)} files of the split are not in {folder}: {some(missing)}")
    return [files[name] for name in names]
