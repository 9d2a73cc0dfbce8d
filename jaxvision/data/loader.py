"""Batches of a source: batch t is a pure function of (source, seed, t).

Nothing is remembered between batches, so resuming is starting at step t, and the number of worker processes, the depth of
the prefetch and the number of hosts may change between runs without changing a batch.
"""

import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import grain.python as grain
import numpy as np
from absl import flags

from jaxvision.batch import REGIONS
from jaxvision.data import collate, transforms, validation
from jaxvision.data.border_weights import BorderWeights
from jaxvision.data.copy_paste import CopyPaste
from jaxvision.data.images import ImageError
from jaxvision.data.mix_up import MixUp
from jaxvision.data.sources import Source, image_labels, label_names

Canvas = tuple[int, int]


class Batches:
    """Random access to the batches of a source.

    source: a `Source`. fields: the batch fields beside the image; training with the transform `border_weights` adds
      `pixel_weights`, with `mix_up` `mix` and the other's label, a source of `overlapping` labels `semantic_labels` to
      `semantic`, and one with proposals (`max_proposals` of an image) `proposals` and `proposals_valid`.
    canvases: (height, width) pairs; every image goes to the one on which it is largest, and a batch holds images of one
      canvas. stretch: images fill it, their shape not kept.
    scales: training draws one for each batch and takes so large a canvas, its sides multiples of 32.
    seed: shuffled batches without end for training; None: every image once, in order, for evaluation, where the last
      batch of a canvas is filled with rows that are not `real`.
    part: (index, count): this host's share of the rows of each batch.
    skip_bad: an image that cannot be used is passed over for the next one and counted; otherwise it is an error.
    check: called with each example as it comes from the source, to raise ExampleError for one that cannot be used.
    Raises ValueError where the batch cannot be divided among the hosts, the source is empty, or `fields` has proposals and
    the source none.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        fields: Sequence[str],
        canvases: Sequence[Canvas],
        stretch: bool = False,
        scales: Sequence[float] = (1.0,),
        seed: int | None = None,
        transforms_config: Mapping[str, Mapping] | None = None,
        max_boxes: int = 100,
        mask_size: int = 112,
        skip_bad: bool = False,
        part: tuple[int, int] = (0, 1),
        check: Callable[[Mapping], None] | None = None,
    ):
        if batch_size % part[1]:
            raise ValueError(f"batch_size {batch_size} cannot be divided among {part[1]} hosts.")
        if not len(source):
            raise ValueError(f"The source {source.name!r} has no images.")
        if len(canvases) > 1 and source.sizes is None:
            raise ValueError(
                f"The source {source.name!r} does not know its image sizes: give one canvas, not {canvases}."
            )
        self.source, self.batch_size, self.fields, self.seed = source, batch_size, tuple(fields), seed
        self.max_boxes, self.mask_size = max_boxes, mask_size
        self.skip_bad, self.part, self.check = skip_bad, part, check
        self.canvases = [tuple(canvas) for canvas in canvases]
        self.scales = tuple(scales)
        self.place = transforms.StretchToCanvas if stretch else transforms.ResizeToCanvas
        steps = transforms.build(transforms_config or {}, flip_pairs=source.flip_pairs) if seed is not None else []
        self.transforms = [step for step in steps if not isinstance(step, BorderWeights | MixUp)]
        self.weights = next((step for step in steps if isinstance(step, BorderWeights)), None)
        self.mix = next((step for step in steps if isinstance(step, MixUp)), None)
        if self.mix and (batch_size < 2 or set(fields) - {"label", "labels"}):
            raise ValueError(
                "mix_up mixes the pictures of a batch, and labels of whole images: it takes a classifier and a batch_size of "
                f"at least 2; here it is {batch_size}, and the network learns from {', '.join(fields)}."
            )
        if self.weights:
            self.fields += ("pixel_weights",)
        if "semantic" in self.fields and getattr(source, "overlapping", False):
            self.fields += ("semantic_labels",)
        self.max_proposals = getattr(source, "max_proposals", 0)
        if self.max_proposals:
            self.fields = tuple(dict.fromkeys((*self.fields, *REGIONS)))
        elif "proposals" in self.fields:
            raise ValueError(
                f"The images of {source.name!r} have no proposals, which this network looks at: set data.proposals, "
                "e.g. dict(method='selective_search')."
            )
        self.groups = self._group()

    def _group(self) -> list[np.ndarray]:
        """The indices of the images that go to each canvas."""
        if len(self.canvases) == 1:
            return [np.arange(len(self.source))]
        scales = [np.min(np.array(canvas) / self.source.sizes, axis=1) for canvas in self.canvases]
        best = np.argmax(scales, axis=0)
        return [np.flatnonzero(best == k) for k in range(len(self.canvases))]

    @functools.cached_property
    def _in_order(self) -> list[tuple[Canvas, np.ndarray]]:
        """Evaluation: (canvas, indices) of every batch; -1 fills."""
        return [
            (
                self.canvases[k],
                np.pad(
                    group[i : i + self.batch_size], (0, max(0, i + self.batch_size - len(group))), constant_values=-1
                ),
            )
            for k, group in enumerate(self.groups)
            for i in range(0, len(group), self.batch_size)
        ]

    @functools.lru_cache(maxsize=2)  # noqa: B019 - an epoch's order is small, and there are few loaders
    def _shuffled(self, epoch: int) -> list[tuple[Canvas, np.ndarray]]:
        """Training: (canvas, indices) of an epoch's full batches, in a random order. What is left over waits for a later epoch."""
        rng = np.random.default_rng((self.seed, epoch))
        batches = []
        for k, group in enumerate(self.groups):
            if len(group):
                order = rng.permutation(np.resize(group, max(len(group), self.batch_size)))
                whole = len(order) // self.batch_size * self.batch_size
                for indices in order[:whole].reshape(-1, self.batch_size):
                    scale = self.scales[rng.integers(len(self.scales))]  # the only one takes no randomness
                    batches.append((_scaled(self.canvases[k], scale), indices))
        return [batches[i] for i in rng.permutation(len(batches))]

    def __len__(self) -> int:
        """Number of batches: of one pass in order; without a practical end when shuffled."""
        return len(self._in_order) if self.seed is None else sys.maxsize

    @functools.cached_property
    def per_epoch(self) -> int:
        """Batches of one pass over the source."""
        return len(self._in_order) if self.seed is None else len(self._shuffled(0))

    def __getitem__(self, t: int) -> dict[str, np.ndarray]:
        if self.seed is None:
            canvas, indices = self._in_order[t]
        else:
            canvas, indices = self._shuffled(t // self.per_epoch)[t % self.per_epoch]
        host, hosts = self.part
        share = self.batch_size // hosts
        places = range(host * share, (host + 1) * share)
        if not self.mix:
            return collate.stack([self._row(t, r, int(indices[r]), canvas) for r in places])
        wanted = [r % self.batch_size for r in range(places.start, places.stop + 1)]  # and the next host's first
        rows = [self._row(t, r, int(indices[r]), canvas) for r in wanted]
        chances = [np.random.default_rng((self.seed, t, r, 1)) for r in places]
        return collate.stack([self.mix(*pair, rng) for pair, rng in zip(itertools.pairwise(rows), chances)])

    def _row(self, t: int, r: int, index: int, canvas: Canvas) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed or 0, t, r))
        example, skipped = self._transformed(max(index, 0), self.transforms, rng)
        example = self.place(canvas)(example)
        if self.weights:
            example = self.weights(example)
        if "labels" in self.fields:  # of what is left to be seen
            shown = image_labels(example)
            example["labels"] = np.isin(np.arange(len(label_names(self.source))), shown)
        row = collate.row(example, self.fields, self.max_boxes, self.mask_size, self.max_proposals)
        row["skipped"] = np.int32(skipped)
        if index < 0 or (skipped and self.seed is None):
            # Fills a batch of an evaluation, where an image counts once: nothing to see, nothing to learn from.
            row["real"] = np.bool_(False)
            row["overflow"], row["skipped"] = np.int32(0), np.int32(index >= 0)
            if "valid" in row:
                row["valid"] = np.zeros_like(row["valid"])
        return row

    def _transformed(self, index: int, steps: Sequence, rng: np.random.Generator) -> tuple[dict, int]:
        """The transformed example at index, and how many were passed over before it."""
        example, skipped = self._usable(index)
        for i, step in enumerate(steps):
            if isinstance(step, CopyPaste):
                other, _ = self._transformed(int(rng.integers(len(self.source))), steps[:i], rng)
                example = step(example, rng, other)
            else:
                example = step(example, rng)
        return example, skipped

    def _usable(self, index: int) -> tuple[dict, int]:
        """The example at index and how many were passed over before it."""
        for skipped in range(len(self.source) if self.skip_bad else 1):
            try:
                example = self.source[(index + skipped) % len(self.source)]
                classes, labels = len(self.source.class_names), len(label_names(self.source))
                joints = len(self.source.keypoint_names) or None
                example = validation.validate(example, classes, num_labels=labels, num_joints=joints)
                if self.check:
                    self.check(example)
                return example, skipped
            except (ImageError, validation.ExampleError) as error:
                if not self.skip_bad:
                    raise
                last = error
        raise ValueError(f"No image of {self.source.name!r} can be used; the last error: {last}")


def _scaled(canvas: Canvas, scale: float) -> Canvas:
    return canvas if scale == 1 else tuple(max(1, round(side * scale / 32)) * 32 for side in canvas)


def load(
    batches: Batches, start: int = 0, stop: int | None = None, *, workers: int = 0, prefetch: int = 4
) -> Iterator[dict]:
    """Iterates over batches start, start + 1, ..., made in `workers` processes (0: in threads of this one), in order."""
    stop = len(batches) if stop is None else stop
    dataset = grain.MapDataset.source(_Window(batches, start, stop))
    threads = grain.ReadOptions(num_threads=4, prefetch_buffer_size=max(4, prefetch))
    iterator = dataset.to_iter_dataset(threads)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain's processes ask for it, also where nobody runs an absl app
        # More processes than batches would wait for nothing.
        count = min(workers, max(1, stop - start))
        options = grain.MultiprocessingOptions(num_workers=count, per_worker_buffer_size=prefetch)
        iterator = iterator.mp_prefetch(options, worker_init_fn=_follow_parent)
    # Closed as soon as nobody reads on, so that no worker and none of its memory outlives the loop.
    with contextlib.closing(iter(iterator)) as iterator:
        yield from iterator


def _follow_parent(_index: int, _count: int) -> None:
    """A worker leaves signals to its parent, which ends it, and does not outlive a parent that was killed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class _Window:
    """Batches start .. stop as a sequence of its own."""

    def __init__(self, batches: Batches, start: int, stop: int):
        self.batches, self.start, self.stop = batches, start, stop

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        return self.batches[self.start + i]
