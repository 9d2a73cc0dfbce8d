"""A segmenter's image put together from windows around objects, and several segmenters as one.

Noh, Hong & Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015, section 4.3: DeconvNet sees each
proposed region by itself, and its scores are joined pixel by pixel; the mean with FCN-8s's probabilities is their ensemble.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxvision.architecture import Architecture
from jaxvision.data.proposals import build
from jaxvision.predictor import Predictor, resize_maps, semantic
from jaxvision.preprocess import resized
from jaxvision.tasks import Result


class RegionPredictor:
    """A segmenter's classes of each pixel of images of any size, from its scores in windows of them.

    proposals: (image (H,W,3)) to boxes (N,4), x1 y1 x2 y2 in its pixels, best first; or a method's settings, as
      dict(method="selective_search"), see `jaxvision.data.proposals`.
    canvas: (height, width) that each window is resized to, its shape not kept. count: windows of an image, of the first boxes.
    join: "max", the greatest score of a class in any window, or "mean", over all windows. A pixel has scores of 0 in a window
      that does not hold it. The probabilities are the softmax of what is joined.
    least: windows whose shorter side is below so many pixels are left out; the authors' code has 112.
    batch_size: windows that go through the network at once.
    """

    def __init__(
        self,
        architecture: Architecture,
        variables: Any,
        proposals: Callable[[np.ndarray], np.ndarray] | Mapping[str, Any],
        *,
        canvas: tuple[int, int] = (224, 224),
        count: int = 50,
        join: str = "max",
        least: int = 1,
        batch_size: int = 8,
    ):
        """Raises ValueError for options that cannot be meant, and for architectures of another task."""
        if join not in ("max", "mean"):
            raise ValueError(f'join {join!r} is not "max" or "mean".')
        if min(count, least, batch_size, *canvas) < 1:
            raise ValueError(
                f"count, least, batch_size and canvas are at least 1, got {(count, least, batch_size, canvas)}."
            )
        self.proposals = proposals if callable(proposals) else build(proposals)
        self.canvas, self.count = tuple(canvas), count
        self.join, self.least, self.batch_size = join, least, batch_size
        self._whole = Predictor(architecture, variables)  # checks images
        if self._whole.task.name != "segmentation":
            raise ValueError(
                f"Regions are joined pixel by pixel, which is for segmenters, not for {architecture.name}."
            )

        def forward(variables, image):
            size = np.tile(np.array(self.canvas, np.int32), (len(image), 1))
            return architecture.model.apply(variables, {"image": image, "image_size": size}, train=False)["logits"]

        self._forward = jax.jit(forward)

    def probabilities(self, images: Sequence) -> Iterator[np.ndarray]:
        """Probabilities (H,W,num_classes) float32 of each image, arrays or paths. Raises ValueError for boxes that are none."""
        for image in self._whole.images(images):
            scores = self._joined(image)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            yield scores / scores.sum(-1, keepdims=True)

    def __call__(self, images: Sequence) -> list[Result]:
        return [semantic(maps) for maps in self.probabilities(images)]

    def windows(self, image: np.ndarray) -> np.ndarray:
        """Whole pixels (N,4), x1 y1 x2 y2, of an image's windows; the whole image where no box is left."""
        height, width = image.shape[:2]
        boxes = np.asarray(self.proposals(image), np.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
            raise ValueError(f"proposals gave no boxes (N,4) but {boxes.shape}, or numbers that are not finite.")
        corners = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1)
        corners = corners.clip(0, (width, height, width, height)).astype(int)
        large = ((corners[:, 2:] - corners[:, :2]) >= self.least).all(1)
        return corners[large][: self.count] if large.any() else np.array([[0, 0, width, height]])

    def _joined(self, image: np.ndarray) -> np.ndarray:
        windows, total = self.windows(image), None
        for start in range(0, len(windows), self.batch_size):
            chosen = windows[start : start + self.batch_size]
            pieces = [resized(image[y1:y2, x1:x2], self.canvas, {}) for x1, y1, x2, y2 in chosen]
            filled = pieces + pieces[-1:] * (self.batch_size - len(pieces))
            logits = np.asarray(self._forward(self._whole.variables, np.stack(filled)), np.float32)
            for (x1, y1, x2, y2), scores in zip(chosen, logits):
                laid = np.zeros((*image.shape[:2], scores.shape[-1]), np.float32)
                laid[y1:y2, x1:x2] = resize_maps(scores, (y2 - y1, x2 - x1))
                if total is None:
                    total = laid
                else:
                    total = np.maximum(total, laid) if self.join == "max" else total + laid
        return total / len(windows) if self.join == "mean" else total


class Ensemble:
    """Segmenters as one: the mean of their probabilities. predictors: with `probabilities(images)`, as `Predictor` has it."""

    def __init__(self, *predictors):
        """Raises ValueError where there is none."""
        if not predictors:
            raise ValueError("An ensemble is of at least one predictor.")
        self.predictors = predictors

    def probabilities(self, images: Sequence) -> Iterator[np.ndarray]:
        """Probabilities (H,W,num_classes) of each image. Raises ValueError where the predictors' classes do not agree."""
        for maps in zip(*(predictor.probabilities(images) for predictor in self.predictors), strict=True):
            classes = {m.shape[-1] for m in maps}
            if len(classes) > 1:
                raise ValueError(f"The predictors of an ensemble have {sorted(classes)} classes.")
            yield np.mean(maps, 0)

    def __call__(self, images: Sequence) -> list[Result]:
        return [semantic(maps) for maps in self.probabilities(images)]
