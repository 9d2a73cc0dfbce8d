"""Images of any size in, results in their own pixels out."""

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import cv2
import jax
import numpy as np

from jaxvision import preprocess, tasks
from jaxvision.architecture import Architecture
from jaxvision.batch import INPUTS, REGIONS
from jaxvision.data import collate, proposals, validation
from jaxvision.data.geometry import fit, mirror, pad
from jaxvision.data.images import read_image
from jaxvision.tasks import Result
from jaxvision.tiles import Tiles
from jaxvision.tta import TTA

DEFAULTS = {"resize": {}, "class_names": (), "mask_paste": "aligned", "precision": None, "proposals": None}
STEP = 64  # the numbers of proposals that a function of the user's is compiled for are multiples of it
CHANNELS = 64  # resized at once: OpenCV takes no more than 128


class Predictor:
    """Predicts with an architecture and its variables.

    canvas: "exact", each image at its own resized size, rounded up to a multiple of 32 where its rule says so: one
      compilation a size, and for torchvision's weights torchvision's numbers. Or (height, width), or a list of such: the
      smallest that holds the resized image is taken; where none does, or where there is no rule of resizing, the image is
      fitted to the one on which it is largest, its shape kept. What a canvas costs is in docs/compatibility.md.
    threshold: detections of a lower score are dropped. batch_size: images that go through the network at once.
    tta: views of each image and how their results are joined, see `TTA`; None is one view.
    tiles: of segmenters: the resized image is seen in overlapping windows, see `Tiles`; None is the whole image at once.
      With tiles or views, probabilities are averaged at the image's own size, resized bilinearly, in float32 on the host:
      4 bytes a pixel and class, and as much again for the view that is being seen.

    These are the architecture's own (`architecture.predictor`) unless given:
    resize: a rule of `jaxvision.preprocess`, as {"min_size": 800, "max_size": 1333}; {} leaves images as they are.
    class_names: in the order of the logits. mask_paste: "torchvision" or "aligned", see `jaxvision.ops.masks.paste_masks`.
    proposals: for networks that look at proposed regions, which are found in each image as it is given: settings as
      `data.proposals` has them, dict(method="selective_search", ...), or a function of an image (H,W,3) to boxes (n,4), x1 y1
      x2 y2 in its pixels, best first. A view of the image shows the same regions.
    precision: of matrix products in float32 on accelerators, "highest" for torchvision's numbers; None is JAX's default.

    `Predictor(...)(images)` takes a list of images, (H,W,3) uint8 or float in 0..1, or paths, and returns a list of results:
    for a detector `boxes` (n,4), `classes` (n,), `scores` (n,), best first, `masks` (n,H,W) bool, `keypoints` (n,K,3), and
    `names` (n,) where class names are known; for a segmenter `semantic` (H,W); for a classifier `probabilities` (K,), with
    `class_boxes` (K,4) where it localises, and where it makes maps `class_maps` (h,w,K), the evidence of each class on a grid
    over the image, and its `size`; for a pose `joints` (J,3).
    """

    def __init__(
        self,
        architecture: Architecture,
        variables: Mapping,
        *,
        canvas: tuple[int, int] | Sequence[tuple[int, int]] | str = "exact",
        threshold: float = 0.0,
        batch_size: int = 1,
        tta: TTA | None = None,
        tiles: Tiles | None = None,
        **options,
    ):
        """Raises ValueError for options that cannot be meant."""
        if not (isinstance(canvas, str) and canvas == "exact") and np.shape(canvas)[-1:] != (2,):
            raise ValueError(f'canvas must be "exact", (height, width) or a list of such, got {canvas!r}.')
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size!r}.")
        if options.keys() - DEFAULTS.keys():
            raise ValueError(f"Predictor has no option {min(options.keys() - DEFAULTS.keys())!r}.")
        options = {**DEFAULTS, **architecture.predictor, **options}
        self.architecture, self.threshold, self.batch_size = architecture, threshold, batch_size
        self.canvases = None if isinstance(canvas, str) else [tuple(map(int, c)) for c in np.reshape(canvas, (-1, 2))]
        self.resize, self.class_names = preprocess.check(options["resize"]), tuple(options["class_names"])
        self.mask_paste, self.tta, self.tiles = options["mask_paste"], tta, tiles
        self.task = tasks.get(architecture.task)
        for name, given in (("canvas", self.canvases), ("tiles", tiles)):
            if given and {"stretch", "crop"} & set(self.resize):
                raise ValueError(f"A network of the rule {self.resize} sees images of one size; leave {name} out.")
        if tiles and self.task.name != "segmentation":
            raise ValueError(
                f"Tiles are averaged pixel by pixel, which is for segmenters; for {self.task.name} leave them out."
            )
        if tiles and self.canvases:
            raise ValueError("A tile is the canvas: leave canvas out, or tiles.")
        self.proposals = None
        if "proposals" in self.task.fields:
            if not options["proposals"]:
                raise ValueError(
                    f"{architecture.name} looks at proposed regions: give proposals=dict(method='selective_search', ...), "
                    "those that it was trained with, or a function of your own."
                )
            given = options["proposals"]
            self.proposals = given if callable(given) else proposals.build(given)
        self._averages = bool(tta or tiles) and self.task.name == "segmentation"
        self.variables = jax.device_put(variables)
        self._rules = {1.0: self.resize} | {
            scale: preprocess.scaled(self.resize, scale) for scale in (tta.scales if tta else ()) if scale != 1
        }

        def forward(variables, batch, maps):
            with jax.default_matmul_precision(options["precision"]):
                outputs = architecture.model.apply(variables, batch, train=False)
                if maps:
                    return {"pixel_probabilities": jax.nn.softmax(outputs["logits"].astype(np.float32))}
                return architecture.predict(outputs, batch)

        self._forward, self._maps = (jax.jit(functools.partial(forward, maps=maps)) for maps in (False, True))

    def __call__(self, images: Sequence[np.ndarray | str | os.PathLike]) -> list[Result]:
        """Raises ValueError for an empty list, for what is not an image, and for one too small for the network, ImageError
        for a file that cannot be read; each names the image."""
        if self._averages:
            return [semantic(maps) for maps in self.probabilities(images)]
        images, names = self.images(images), _names(images)
        regions = [self._regions(name, image) for name, image in zip(names, images)]
        if self.tta is None:
            results = self._predict([self._row(image, found) for image, found in zip(images, regions)], names)
        else:
            views = self.tta.views()
            rows = [self._row(image, r, *v) for image, r in zip(images, regions) for v in views]
            seen = self._predict(rows, [name for name in names for _ in views])
            results = []
            for i, image in enumerate(images):
                own = seen[i * len(views) : (i + 1) * len(views)]
                own = [self.tta.unmirror(r, image.shape[1]) if m else r for r, (_, m) in zip(own, views)]
                results.append(self.tta.fuse(own))
        return [self._named(result) for result in results]

    def probabilities(self, images: Sequence[np.ndarray | str | os.PathLike]) -> Iterator[np.ndarray]:
        """A segmenter's probabilities (H,W,num_classes) float32, the softmax of its scores, of each image at its own size.

        Raises ValueError for architectures of another task, and what a call raises.
        """
        if self.task.name != "segmentation":
            raise ValueError(
                f"Segmenters give probabilities of pixels; {self.architecture.name} is for {self.task.name}."
            )
        images, names = self.images(images), _names(images)
        together = 1 if self.tiles else self.batch_size  # one image's tiles fill batches, and its maps the memory
        parts = (slice(i, i + together) for i in range(0, len(images), together))
        return (maps for part in parts for maps in self._averaged(images[part], names[part]))

    def images(self, images: Sequence[np.ndarray | str | os.PathLike]) -> list[np.ndarray]:
        """Images, arrays or paths, as arrays (H,W,3) that were checked; raises as a call does."""
        if isinstance(images, np.ndarray | str | os.PathLike) or not len(images):
            raise ValueError("Give a list of at least one image, arrays or paths.")
        read = (read_image(image) if isinstance(image, str | os.PathLike) else np.asarray(image) for image in images)
        return [
            validation.validate({"image": image}, 1, where=name)["image"] for name, image in zip(_names(images), read)
        ]

    def rows(self, images: Sequence[np.ndarray | str | os.PathLike]) -> list[dict[str, np.ndarray]]:
        """Each image as the network sees it: a row of a batch, on its canvas, with the regions that are proposed in it.

        `original_size` is the host's. Raises as a call does.
        """
        return [self._row(image, self._regions(n, image)) for n, image in zip(_names(images), self.images(images))]

    def _regions(self, name: str, image: np.ndarray) -> np.ndarray | None:
        """The proposals in an image, or None where the network looks at none."""
        if self.proposals is None:
            return None
        found = validation.validate({"image": image, "proposals": self.proposals(image)}, 1, where=name)["proposals"]
        if not len(found):
            raise ValueError(
                f"{name}: nothing is proposed in it; take other settings, a smaller min_size, or leave it out."
            )
        return found

    def _row(
        self, image: np.ndarray, regions: np.ndarray | None = None, scale: float = 1.0, mirrored: bool = False
    ) -> dict[str, np.ndarray]:
        """One image on its canvas, with the regions that are proposed in it."""
        row = _laid(*self._resized(image, scale, mirrored), image.shape[:2])
        if regions is None:
            return row
        if mirrored:
            regions = mirror({"image": image, "proposals": regions})["proposals"]
        ratio = row["image_size"] / np.array(image.shape[:2])
        count = getattr(self.proposals, "count", -(-len(regions) // STEP) * STEP)
        found = collate.regions(regions * np.array([ratio[1], ratio[0]] * 2, np.float32), count)
        return row | {name: found[name] for name in REGIONS}

    def _resized(self, image: np.ndarray, scale: float, mirrored: bool) -> tuple[np.ndarray, tuple[int, int]]:
        """(the image as the network sees it, the canvas that it goes on)."""
        rule, original = self._rules[scale], image.shape[:2]
        size = preprocess.new_size(original, rule)
        if not rule:
            size = tuple(max(1, round(side * scale)) for side in size)
        cut = (rule["crop"],) * 2 if "crop" in rule else size
        if self.canvases is None:
            canvas = tuple(-(-side // preprocess.multiple(rule)) * preprocess.multiple(rule) for side in cut)
        else:
            canvases = [
                tuple(-(-round(side * scale) // 32) * 32 for side in c) if scale != 1 else c for c in self.canvases
            ]
            large_enough = [c for c in canvases if c[0] >= cut[0] and c[1] >= cut[1]] if rule else []
            canvas = min(large_enough, key=np.prod, default=None)
            if canvas is None:
                canvas = max(canvases, key=lambda c: np.prod(fit(original, c)))
                size = fit(original, canvas)
        return preprocess.resized(mirror({"image": image})["image"] if mirrored else image, size, rule), canvas

    def _averaged(self, images: Sequence[np.ndarray], names: Sequence[str]) -> Iterator[np.ndarray]:
        """Each image's mean of the probabilities in every window of every view."""
        tta = self.tta or TTA(flip=False)
        totals = {}
        for scale in tta.scales:
            rows, places, means = [], [], {}
            for i, image in enumerate(images):
                for mirrored in (False, True) if tta.flip else (False,):
                    seen, canvas = self._resized(image, scale, mirrored)
                    tiles = self.tiles or Tiles(canvas)
                    for y, x, weight in tiles.windows(seen.shape[:2]):
                        rows.append(_laid(seen[y, x], tiles.size, image.shape[:2]))
                        places.append((i, mirrored, seen.shape[:2], y, x, weight))
            for n, result in self._outcomes(rows, [names[place[0]] for place in places], self._maps):
                i, mirrored, size, y, x, weight = places[n]
                probabilities = result["pixel_probabilities"]
                if i not in means:
                    means[i] = np.zeros((*size, probabilities.shape[-1]), np.float32)
                view = means[i][:, ::-1] if mirrored else means[i]
                view[y, x] += probabilities * weight
            for i, image in enumerate(images):
                mean = resize_maps(means.pop(i), image.shape[:2])
                totals[i] = np.add(totals[i], mean, out=totals[i]) if i in totals else mean
        views = len(tta.views())
        for i in range(len(images)):
            total = totals.pop(i)
            total /= views
            yield total

    def _predict(self, rows: Sequence[dict], names: Sequence[str]) -> list[Result]:
        results = dict(self._outcomes(rows, names, self._forward))
        return [results[i] for i in range(len(rows))]

    def _outcomes(self, rows: Sequence[dict], names: Sequence[str], forward: Callable) -> Iterator[tuple[int, Result]]:
        """(index, result) of every row, as the network gives them. names: of the rows' images."""
        kinds = {}  # images of one canvas and dtype go together
        for i, row in enumerate(rows):
            sizes = tuple(value.shape for value in row.values())
            kinds.setdefault((sizes, row["image"].dtype), []).append(i)
        for members in kinds.values():
            for start in range(0, len(members), self.batch_size):
                chosen = members[start : start + self.batch_size]
                filled = chosen + chosen[-1:] * (self.batch_size - len(chosen))
                batch = {name: np.stack([rows[i][name] for i in filled]) for name in INPUTS if name in rows[chosen[0]]}
                try:
                    predictions = jax.device_get(forward(self.variables, batch))
                except ValueError as error:  # of the size for which the network is traced
                    if self.canvases or self.tiles:
                        raise
                    raise ValueError(f"{', '.join(dict.fromkeys(names[i] for i in chosen))}: {error}") from error
                for r, i in enumerate(chosen):
                    yield i, self._result({name: value[r] for name, value in predictions.items()}, rows[i])

    def _result(self, prediction: dict, row: dict) -> Result:
        size, original = row["image_size"], row["original_size"]
        if "pixel_probabilities" in prediction:
            return {"pixel_probabilities": prediction["pixel_probabilities"][: size[0], : size[1]]}
        if "valid" in prediction:
            prediction["valid"] = prediction["valid"] & (prediction["scores"] >= self.threshold)
        options = {"paste": self.mask_paste} if "masks" in prediction else {}
        return self.task.result(prediction, size, original, **options)

    def _named(self, result: Result) -> Result:
        if "classes" in result and self.class_names:
            result["names"] = np.array(self.class_names)[result["classes"]]
        return result


def _names(images: Sequence) -> list[str]:
    """What images are called in messages: their paths, or their places in the list."""
    return [
        os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {i}" for i, image in enumerate(images)
    ]


def _laid(image: np.ndarray, canvas: tuple[int, int], original: tuple[int, int]) -> dict[str, np.ndarray]:
    """A row of a batch: the image at the top left of the canvas. original: size of the picture that it is, or is cut from."""
    return {
        "image": pad({"image": image}, 0, 0, *canvas, colour=(0, 0, 0))["image"],
        "image_size": np.array(image.shape[:2], np.int32),
        "original_size": np.array(original, np.int32),
    }


def semantic(maps: np.ndarray) -> Result:
    """A segmenter's result from its probabilities (H,W,num_classes): the class of each pixel, (H,W) int32."""
    return {"semantic": maps.argmax(-1).astype(np.int32)}


def resize_maps(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps (H,W,C) at another (height, width), bilinearly, by pixel centres."""
    if maps.shape[:2] == tuple(size):
        return maps
    groups = np.split(maps, range(CHANNELS, maps.shape[2], CHANNELS), axis=2)
    return np.dstack([cv2.resize(np.ascontiguousarray(group), tuple(size)[::-1]) for group in groups])
