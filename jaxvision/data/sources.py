"""Sources by name: what a config's `data.source` and splits mean.

A source is a random-access sequence of examples, dicts of numpy arrays at the image's own resolution, with `name`,
`class_names`, `keypoint_names`, `flip_pairs`, `sigmas`, `sizes`, and `annotations(i)`: an example without its image. One whose
`overlapping` is True has `semantic_labels` (H, W, classes) bool beside `semantic`, all classes of a pixel.
"""

import os
from typing import Any, Protocol, runtime_checkable

import numpy as np

Example = dict[str, Any]


@runtime_checkable
class Source(Protocol):
    name: str
    class_names: tuple[str, ...]
    keypoint_names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: np.ndarray | None
    sizes: np.ndarray | None

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Example: ...
    def annotations(self, index: int) -> Example: ...


SCENES = "scenes/shapes, scenes/overlapping, scenes/full, scenes/single, scenes/people"
FORMS = {
    "coco": "ANNOTATIONS.json:IMAGES",
    "folder": "IMAGES:MASKS, folder:IMAGES:TABLE.csv, folder:ROOT",
    "voc": "ROOT:SPLIT",
    "sbd": "ROOT:SPLIT",
    "flic": "ROOT:SPLIT",
    "lsp": "ROOT:SPLIT",
    "voc_detection": "ROOT:SPLIT",
    "ilsvrc": "ROOT:SPLIT",
    "cub": "ROOT:SPLIT",
    "tfds": "BUILDER:SPLIT",
}


def open_source(source: str, split: str = "", data_dir: str = "") -> Source:
    """The source of one split.

    source: "scenes/CONFIG" with split "train", "validation" or "test"; "coco" with split "ANNOTATIONS.json:IMAGES";
      "folder" with split "IMAGES:MASKS", "IMAGES:TABLE.csv" or the root of folders of classes, or "folder:ROOT" with such a
      split below ROOT; "voc:ROOT", "sbd:ROOT", "voc_detection:ROOT", "ilsvrc:ROOT", "cub:ROOT", "lsp:ROOT", "flic:ROOT"
      or "tfds:BUILDER" with the name of a split; or both at once, "coco:ANNOTATIONS.json:IMAGES", "voc:ROOT:SPLIT". A split of
      that form is a source of its own, so that a run may learn from one and be scored on another. Paths are relative to
      data_dir where that is given, which for scenes and tfds is the folder of prepared sets.
    Raises ValueError for a name that is none of these, FileNotFoundError for a folder that is not there.
    """
    if split.count(":") >= 2 and split.partition(":")[0] in FORMS:
        source, split = split, ""
    kind, _, rest = source.partition(":")
    first, _, own = rest.partition(":")

    def path(part):
        return os.path.join(data_dir, os.path.expanduser(part))

    if kind.startswith("scenes/"):
        from jaxvision.data.scenes import open_scenes

        return open_scenes(kind.removeprefix("scenes/"), rest or split, data_dir or None)
    if kind == "folder" and rest and not own:
        rest = ":".join(os.path.join(first, part) for part in split.split(":"))
    if kind in ("coco", "folder"):
        parts = (rest or split).split(":")
        if len(parts) != 2 and not (kind == "folder" and len(parts) == 1 and parts[0]):
            raise ValueError(
                f"A source of kind {kind!r} reads '{kind}:{FORMS[kind]}', got {source!r} with split {split!r}."
            )
        if kind == "coco":
            from jaxvision.data.coco import CocoSource as open_parts
        elif len(parts) == 1:
            from jaxvision.data.image_folder import open_image_folder as open_parts
        elif parts[1].lower().endswith(".csv"):
            from jaxvision.data.image_folder import open_image_table as open_parts
        else:
            from jaxvision.data.mask_folder import open_folder as open_parts
        return open_parts(*map(path, parts))
    if kind in ("voc", "sbd"):
        from jaxvision.data import voc

        return (voc.open_voc if kind == "voc" else voc.open_sbd)(path(first), own or split)
    if kind == "voc_detection":
        from jaxvision.data.voc_detection import open_voc_detection

        return open_voc_detection(path(first), own or split)
    if kind == "ilsvrc":
        from jaxvision.data.ilsvrc import open_ilsvrc

        return open_ilsvrc(path(first), own or split)
    if kind == "cub":
        from jaxvision.data.cub import open_cub

        return open_cub(path(first), own or split)
    if kind in ("lsp", "flic"):
        from jaxvision.data import pose_sets

        return (pose_sets.open_lsp if kind == "lsp" else pose_sets.open_flic)(path(first), own or split)
    if kind == "tfds":
        from jaxvision.data.tfds_sets import open_tfds

        return open_tfds(first, own or split, data_dir or None)
    known = ", ".join([SCENES, *(f"{kind}:{form}" for kind, form in FORMS.items())])
    raise ValueError(f"There is no source {source!r}. Known: {known}.")


def label_names(source: Source) -> tuple[str, ...]:
    """The names of image-level classes: a classifier has no background."""
    names = tuple(source.class_names)
    return names[1:] if names[0] == "background" else names


def image_labels(example: Example) -> np.ndarray:
    """The classes that an image shows, each once, 0 the first that is no background: (n,) int64.

    Those of `labels` where the example has them; else of its objects, difficult ones left out; else its one `label`.
    Raises ValueError for an example that has none of them.
    """
    if "labels" in example:
        return np.flatnonzero(example["labels"])
    if "classes" in example:
        classes = np.asarray(example["classes"], np.int64)
        return np.unique(classes[~np.asarray(example.get("difficult", np.zeros(len(classes), bool)), bool)]) - 1
    if "label" in example:
        return np.array([example["label"]], np.int64)
    raise ValueError(
        f"image {example.get('image_id')} has neither labels nor objects nor a label; take another data.source"
    )


def rows_by_id(source: Source) -> dict[int, int]:
    """The index of each image by its id; read from the annotations where the source does not list `image_ids`."""
    ids = getattr(source, "image_ids", None)
    if ids is None:
        ids = [source.annotations(i)["image_id"] for i in range(len(source))]
    return {int(image_id): i for i, image_id in enumerate(ids)}
