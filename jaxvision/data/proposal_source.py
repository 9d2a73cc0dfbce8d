"""A source whose examples carry region proposals: found once, by worker processes, and kept as ArrayRecord.

A file holds those of one source by one method with all its settings; both are in its name, and it appears only when it
is complete.
"""

import dataclasses
import functools
import hashlib
import json
import os
import re
import sys
import uuid
import zlib
from collections.abc import Mapping

import cv2
import numpy as np
import tqdm
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from jaxvision.data.images import ImageError
from jaxvision.data.loader import load
from jaxvision.data.proposals import METHODS, Method, build
from jaxvision.data.sources import Source
from jaxvision.data.validation import ExampleError, validate
from jaxvision.data.wrapper import Wrapper

VERSION = 1  # raise it with any change to what is found or how it is kept
_HEADER = np.dtype([("image_id", "<i8"), ("checksum", "<u4")])


def with_proposals(source: Source, settings: Mapping, name: str, data_dir: str = "", workers: int = 0) -> Source:
    """The source, its examples with `proposals` (n,4) float32, x1 y1 x2 y2 in pixels of the image, best first.

    settings: a method of `jaxvision.data.proposals` and its arguments, dict(method="selective_search", ...); empty: the
    source as it is. name: what the source and its split are called, which keys the file. data_dir: the folder in whose
    proposals/ it is kept, by default TFDS's own. workers: where not 0, a process a core searches; else threads of this one.
    Raises ValueError for settings that cannot be meant.
    """
    if not settings:
        return source
    method = build(settings)
    path = cache_path(source, method, name, data_dir)
    if not os.path.exists(path):
        _find(source, method, path, (os.cpu_count() or 1) if workers else 0)
    return ProposalSource(source, path, method.count)


def cache_path(source: Source, method: Method, name: str, data_dir: str = "") -> str:
    """The file that holds a source's proposals; another name, number of images or setting is another file."""
    folder = os.path.join(os.path.expanduser(data_dir or _tfds_folder()), "proposals")
    kind = next(kind for kind, known in METHODS.items() if isinstance(method, known))
    key = {"source": name, "images": len(source), "method": kind, **dataclasses.asdict(method)}
    key |= {"version": VERSION, "opencv": cv2.__version__}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return os.path.join(folder, f"{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}_{kind}_{digest}.array_record")


def _tfds_folder() -> str:
    return os.environ.get("TFDS_DATA_DIR") or os.path.join("~", "tensorflow_datasets")


def _find(source: Source, method: Method, path: str, workers: int) -> None:
    """Writes the proposals of all images beside `path` and moves them there at the end; of several processes one wins."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    partial = f"{path}.{uuid.uuid4().hex[:8]}.partial"
    tqdm.tqdm.write(f"Proposals of {len(source)} images of {source.name} by {method}, for {path}", file=sys.stdout)
    every = 0.5 if sys.stderr.isatty() else 30
    writer, without = ArrayRecordWriter(partial, "group_size:1"), []
    try:
        with tqdm.tqdm(total=len(source), unit="image", mininterval=every, dynamic_ncols=True) as bar:
            for number, row in enumerate(load(_Search(source, method), workers=workers)):
                writer.write(row["record"].tobytes())
                if row["record"].size == _HEADER.itemsize:
                    without.append(number)
                bar.update()
        writer.close()
        os.replace(partial, path)
        if without:
            tqdm.tqdm.write(
                f"In {len(without)} of them, the first being {', '.join(map(str, without[:5]))} of the split, nothing is "
                "proposed, or they cannot be used: reading one is an error; lower data.proposals.min_size, or set data.skip_bad.",
                file=sys.stdout,
            )
    finally:
        if writer.is_open():
            writer.close()
        if os.path.exists(partial):
            os.remove(partial)


class _Search:
    """The records of a source's images, for `load`."""

    def __init__(self, source: Source, method: Method):
        self.source, self.method = source, method

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        header, boxes = np.zeros(1, _HEADER), np.zeros((0, 4), np.float32)
        try:
            example = self.source[index]
            picture = {"image": example["image"], "image_id": example["image_id"]}
            boxes = self.method(validate(picture, 1)["image"])
            header["image_id"], header["checksum"] = example["image_id"], _checksum(example["image"])
        except (ImageError, ExampleError):
            pass  # an image that cannot be used is for whoever reads it to report or to pass over
        return {"record": np.frombuffer(header.tobytes() + boxes.astype("<f4").tobytes(), np.uint8)}


class ProposalSource(Wrapper):
    """A source with the proposals of a file; in all else the source itself. A pickled copy opens its file again.

    `max_proposals` is the most that an image has.
    """

    def __init__(self, source: Source, path: str, max_proposals: int):
        super().__init__(source)
        self.path, self.max_proposals = path, max_proposals

    def __getitem__(self, index: int) -> dict:
        """Raises ExampleError where the file has no proposals of the image, or has those of another one."""
        example = self.source[index]
        where = f"image {example['image_id']}" + (f" ({example['file']})" if "file" in example else "")
        if index >= len(self._records):
            raise ExampleError(
                f"{where}: {self.path} has no proposals of it but those of {len(self._records)} images; delete that file"
            )
        record = self._records[index]
        header, boxes = np.frombuffer(record[: _HEADER.itemsize], _HEADER)[0], record[_HEADER.itemsize :]
        if len(boxes) and (header["image_id"], header["checksum"]) != (
            example["image_id"],
            _checksum(example["image"]),
        ):
            raise ExampleError(
                f"{where}: its proposals are missing, {self.path} has those of another picture there "
                f"(image {header['image_id']}); delete that file, and they are found anew"
            )
        if not len(boxes):
            raise ExampleError(
                f"{where}: nothing is proposed in it; lower data.proposals.min_size, or pass over it by data.skip_bad"
            )
        return {**example, "proposals": np.frombuffer(boxes, "<f4").reshape(-1, 4).astype(np.float32)}

    @functools.cached_property
    def _records(self) -> ArrayRecordDataSource:
        return ArrayRecordDataSource(self.path)


def _checksum(image: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(image))
