"""Images of any size in, results in their own pixels out."""

import os
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxvision import tasks
from jaxvision.architecture import Architecture
from jaxvision.data import validation
from jaxvision.data.images import read_image
from jaxvision.data.transforms import ResizeToCanvas
from jaxvision.tasks import Result


class Predictor:
    """Predicts with an architecture and its variables.

    canvas: (height, width) that every image is fitted to, its shape kept; or "exact", each image at its own size, rounded up
      to a multiple of 32 (one compilation a size).
    threshold: detections of a lower score are dropped. batch_size: images that go through the network at once.

    `Predictor(...)(images)` takes a list of images, (H,W,3) uint8 or float in 0..1, or paths, and returns a list of results:
    for a detector `boxes` (n,4), `classes` (n,), `scores` (n,), best first, and `masks` (n,H,W) bool; for a segmenter
    `semantic` (H,W); for a classifier `probabilities` (K,).
    """

    def __init__(
        self,
        architecture: Architecture,
        variables: Mapping,
        *,
        canvas: tuple[int, int] | str = "exact",
        threshold: float = 0.0,
        batch_size: int = 1,
    ):
        if canvas != "exact" and np.shape(canvas) != (2,):
            raise ValueError(f'canvas must be "exact" or (height, width), got {canvas!r}.')
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size!r}.")
        self.architecture, self.canvas, self.threshold = architecture, canvas, threshold
        self.task, self.batch_size = tasks.get(architecture.task), batch_size
        self.variables = jax.device_put(variables)

        def forward(variables, batch):
            outputs = architecture.model.apply(variables, batch, train=False)
            return architecture.predict(outputs, batch)

        self._forward = jax.jit(forward)

    def __call__(self, images: Sequence[np.ndarray | str | os.PathLike]) -> list[Result]:
        """Raises ValueError for an empty list and for what is not an image, ImageError for a file that cannot be read."""
        if isinstance(images, np.ndarray | str | os.PathLike) or not len(images):
            raise ValueError("Give a list of at least one image, arrays or paths.")
        rows = [self._row(i, image) for i, image in enumerate(images)]
        results: list[Result | None] = [None] * len(rows)
        kinds = {}  # images of one canvas and dtype go together
        for i, row in enumerate(rows):
            kinds.setdefault((row["image"].shape, row["image"].dtype), []).append(i)
        for members in kinds.values():
            for start in range(0, len(members), self.batch_size):
                chosen = members[start : start + self.batch_size]
                filled = chosen + chosen[-1:] * (self.batch_size - len(chosen))
                batch = {name: np.stack([rows[i][name] for i in filled]) for name in ("image", "image_size")}
                predictions = jax.device_get(self._forward(self.variables, batch))
                for r, i in enumerate(chosen):
                    prediction = {name: value[r] for name, value in predictions.items()}
                    if "valid" in prediction:
                        prediction["valid"] = prediction["valid"] & (prediction["scores"] >= self.threshold)
                    results[i] = self.task.result(prediction, rows[i]["image_size"], rows[i]["original_size"])
        return results

    def _row(self, index: int, image) -> dict[str, np.ndarray]:
        where = f"image {index}"
        if isinstance(image, str | os.PathLike):
            where, image = os.fspath(image), read_image(image)
        image = validation.validate({"image": np.asarray(image), "image_id": index}, 1, where=where)["image"]
        if self.canvas == "exact":
            canvas = tuple(-(-side // 32) * 32 for side in image.shape[:2])
            padded = np.zeros((*canvas, 3), image.dtype)
            padded[: image.shape[0], : image.shape[1]] = image
            size = np.array(image.shape[:2], np.int32)
            return {"image": padded, "image_size": size, "original_size": size}
        return ResizeToCanvas(tuple(self.canvas))({"image": image}, None)
