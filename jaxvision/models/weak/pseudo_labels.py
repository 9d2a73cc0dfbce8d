"""The stage between a classifier and a segmenter: semantic maps of the training images from what the classifier looks at.

Only the images and their image-level labels are read, `labels` or `label`.
"""

import functools
import hashlib
import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from jaxvision.architecture import Architecture
from jaxvision.data.images import ImageError
from jaxvision.data.loader import Batches, load
from jaxvision.data.pseudo_labels import keep_pseudo_labels
from jaxvision.data.sources import image_labels, label_names
from jaxvision.data.validation import ExampleError
from jaxvision.explain.grad_cam import grad_cam
from jaxvision.ops.crf import choose
from jaxvision.ops.images import colours
from jaxvision.ops.pseudo_labels import pseudo_labels
from jaxvision.tasks.segmentation import SEGMENTATION

SEEDS = ("maps", "gradcam")
INPUTS = ("image", "image_size")


def fit_pseudo_labels(
    architecture: Architecture,
    variables: Mapping,
    source,
    directory: str,
    batches: Batches,
    seeds: str = "maps",
    layer: str = "c5",
    threshold: float = 0.3,
    certain: float = 0.0,
    crf: str | Mapping[str, Any] | None = None,
    method: str = "fast",
) -> Mapping:
    """Leaves the maps of all training images in the directory, for `data.pseudo_labels` of a later stage; the variables stay.

    seeds: "maps", the network's own `class_maps`, as CAM and ACoL have them; or "gradcam" of every class at `layer`, of any
      classifier. threshold, certain: see `jaxvision.ops.pseudo_labels`. crf, method: see `jaxvision.ops.crf.choose`; None: no CRF.
    Maps made of the same images and labels with the same network and settings are not made again.
    Raises ValueError for settings that cannot be meant, and for a set whose classes do not begin with the background.
    """
    if seeds not in SEEDS:
        raise ValueError(f"pseudo labels: seeds {seeds!r} is not one of {', '.join(SEEDS)}.")
    if not (0 < threshold < 1 and 0 <= certain < 1):
        raise ValueError(f"pseudo labels: threshold {threshold} lies between 0 and 1, and certain {certain} in 0..1.")
    if source.class_names[0] != "background":
        raise ValueError(
            f"pseudo labels: the classes of {source.name!r} begin with {source.class_names[0]!r}, but what no class wins is "
            "background; take a source whose first class is 'background'."
        )
    crf_settings = None if crf is None else choose(crf)
    settings = dict(seeds=seeds, threshold=threshold, certain=certain, crf=crf, method=method, source=source.name)
    settings |= {"layer": layer} if seeds == "gradcam" else {}
    key = {**settings, "images": _images(source, batches.skip_bad), "weights": _checksum(variables)}
    key |= {"architecture": [architecture.name, architecture.options]}
    key |= {"canvases": batches.canvases, "place": batches.place.__name__}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
    make = jax.jit(
        functools.partial(pseudo_labels, threshold=threshold, certain=certain, crf=crf_settings, method=method)
    )
    look = _maps_of(architecture, seeds, layer)

    def maps() -> Iterator[tuple[int, np.ndarray]]:
        there = jax.device_put(variables)
        every = 0.5 if sys.stderr.isatty() else 30
        with tqdm.tqdm(total=len(source), unit="image", mininterval=every, dynamic_ncols=True) as bar:
            for batch in load(batches):
                present = _present(batch, source)
                found = look(there, {name: batch[name] for name in INPUTS})
                labels = np.asarray(make(found, present, colours(batch["image"]), batch["image_size"]))
                for i in np.flatnonzero(batch["real"]):
                    sizes = batch["image_size"][i], batch["original_size"][i]
                    yield int(batch["image_id"][i]), SEGMENTATION.result({"semantic": labels[i]}, *sizes)["semantic"]
                    bar.update()

    keep_pseudo_labels(directory, digest, settings, maps)
    return variables


def _maps_of(architecture: Architecture, seeds: str, layer: str):
    """(variables, batch) to maps (B,h,w,K) of all classes."""
    if seeds == "gradcam":

        def look(variables, batch):
            shapes = jax.eval_shape(lambda v, b: architecture.model.apply(v, b)["logits"], variables, batch)
            maps = grad_cam(architecture, variables, batch, layer, np.arange(shapes.shape[-1]))
            return jnp.moveaxis(maps, 1, -1)

        return look

    @jax.jit
    def look(variables, batch):
        outputs = architecture.model.apply(variables, batch, train=False)
        if "class_maps" not in outputs:
            raise ValueError(
                f'pseudo labels: {architecture.name} has no maps of classes, as cam and acol have; take seeds="gradcam".'
            )
        return outputs["class_maps"]

    return look


def _present(batch: Mapping[str, np.ndarray], source) -> np.ndarray:
    """(B,K) bool: the classes that each image is said to have."""
    if "labels" in batch:
        return batch["labels"]
    return batch["label"][:, None] == np.arange(len(label_names(source)))


def _images(source, skip_bad: bool) -> int:
    """A checksum of which images there are, and of what is said to be in each; bad ones are left out, or an error."""
    total = 0
    for i in range(len(source)):
        try:
            example = source.annotations(i)
        except (ExampleError, ImageError):
            if not skip_bad:
                raise
            continue
        known = example["image_id"], example.get("file"), image_labels(example).tolist()
        total = zlib.crc32(repr(known).encode(), total)
    return total


def _checksum(variables: Mapping) -> int:
    total = 0
    for leaf in jax.tree.leaves(variables):
        total = zlib.crc32(np.ascontiguousarray(leaf), total)
    return total
