"""A source whose semantic maps were made by a network, and are kept as PNGs that one can look at.

They lie in a folder of a run's directory whose name holds what they were made with; `pseudo_labels.json` beside it says which
is the latest that is complete.
"""

import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping

import cv2
import numpy as np

from jaxvision.data.images import ImageError
from jaxvision.data.index_maps import read_index_map
from jaxvision.data.sources import Source
from jaxvision.data.wrapper import Wrapper

POINTER = "pseudo_labels.json"


class PseudoLabels(Wrapper):
    """The images of a source with the maps of a folder, ID.png, in place of every annotation: nothing else is passed on."""

    overlapping = False

    def __init__(self, source: Source, folder: str):
        super().__init__(source)
        self.folder = folder

    def __getitem__(self, index: int) -> dict:
        return self._labelled(self.source[index])

    def annotations(self, index: int) -> dict:
        return self._labelled(self.source.annotations(index))

    def _labelled(self, example: Mapping) -> dict:
        """Raises ImageError where there is no map of the image."""
        kept = {name: example[name] for name in ("image", "image_id", "file", "proposals") if name in example}
        path = os.path.join(self.folder, f"{example['image_id']}.png")
        if not os.path.exists(path):
            raise ImageError(
                f"image {example['image_id']}: {self.folder} has no pseudo labels of it; they were made of another source or "
                "split. Delete that stage's directory, and they are made anew."
            )
        return {**kept, "mask_file": path, "semantic": read_index_map(path)}


def with_pseudo_labels(source: Source, directory: str) -> Source:
    """The source with the maps that a stage left in its directory; "": the source as it is.

    Raises FileNotFoundError for a directory without any.
    """
    if not directory:
        return source
    path = os.path.join(directory, POINTER)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"data.pseudo_labels: there are none in {directory!r}. Name an earlier stage that makes some, or its directory."
        )
    with open(path) as file:
        return PseudoLabels(source, os.path.join(directory, json.load(file)["folder"]))


def keep_pseudo_labels(
    directory: str, key: str, settings: Mapping, maps: Callable[[], Iterable[tuple[int, np.ndarray]]]
) -> str:
    """Writes maps (image id, (H,W) of classes below 256) unless those of that key are there, and returns their folder.

    A folder appears when it is complete. settings: what is written down beside its name.
    """
    folder = f"pseudo_labels_{key}"
    path = os.path.join(directory, folder)
    if not os.path.isdir(path):
        partial = f"{path}.{uuid.uuid4().hex[:8]}.partial"
        os.makedirs(partial)
        for image_id, semantic in maps():
            cv2.imwrite(os.path.join(partial, f"{image_id}.png"), semantic.astype(np.uint8))
        os.replace(partial, path)
    with open(os.path.join(directory, POINTER), "w") as file:
        json.dump({"folder": folder, **settings}, file, indent=1)
    return path
