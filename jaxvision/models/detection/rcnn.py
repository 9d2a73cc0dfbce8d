"""R-CNN (Girshick, Donahue, Darrell & Malik, "Rich Feature Hierarchies for Accurate Object Detection", CVPR 2014)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.models.backbones.classification import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.models.detection import region_fit
from jaxvision.models.detection.region_detector import RegionDetector, check_classifier, losses, make_trunk
from jaxvision.models.detection.single_shot.detect import predict
from jaxvision.ops.images import normalize
from jaxvision.ops.warp import warp


class RCNN(RegionDetector):
    """Each region is warped to side x side pixels, `context` of them around it, and goes through the trunk by itself.

    The trunk's maps are those of the regions, (B R, h, w, C). chunk: regions of an image that go through it at once in a
    prediction, to save memory (0: all); then there are no maps.
    """

    side: int = 227
    context: int = 16
    pooled: str = "pool5"
    chunk: int = 0

    def pool(self, batch: Mapping[str, jax.Array], regions: jax.Array, train: bool) -> tuple[jax.Array, dict]:
        image = normalize(batch["image"], batch["image_size"], IMAGENET_MEAN, IMAGENET_STD)
        if not self.chunk or train or self.is_initializing():
            return self._see(image, regions, train)
        count = regions.shape[1]
        parts = -(-count // self.chunk)
        regions = jnp.pad(regions, ((0, 0), (0, parts * self.chunk - count), (0, 0)))
        regions = jnp.moveaxis(regions.reshape(len(regions), parts, self.chunk, 4), 1, 0)
        scan = nn.scan(
            lambda module, _, part: (None, module._see(image, part, False)[0]),
            variable_broadcast=("params", "batch_stats"),
            split_rngs={"params": False},
        )
        _, seen = scan(self, None, regions)
        return jnp.moveaxis(seen, 0, 1).reshape(len(image), -1, seen.shape[-1])[:, :count], {}

    def _see(self, image, regions, train):
        pieces = jax.vmap(lambda image, boxes: warp(image, boxes, self.side, self.context))(
            image, jax.lax.stop_gradient(regions)
        )
        maps = self.trunk(pieces.reshape(-1, *pieces.shape[2:]), train)
        return maps[self.pooled].astype(jnp.float32).reshape(*regions.shape[:2], -1), maps


def fit_svms(architecture, variables, source, directory, batches):
    """A stage's function: positives are the objects, negatives the proposals of an IoU below 0.3 with those of the class."""
    return region_fit.fit_svms(architecture, variables, batches)


def fit_boxes(architecture, variables, source, directory, batches):
    """A stage's function: the box regression, from proposals of an IoU above 0.6."""
    return region_fit.fit_boxes(architecture, variables, batches, directory)


def rcnn(
    num_classes: int,
    trunk: str = "alexnet",
    depths: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    norm: str = "none",
    side: int = 227,
    context: int = 16,
    fc: int = 4096,
    dropout: float = 0.5,
    classifier: str = "softmax",
    samples: int = 128,
    positive_fraction: float = 0.25,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.3,
    detections: int = 100,
    candidates: int = 2000,
    chunk: int = 0,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """R-CNN; the defaults are the paper's on AlexNet.

    Its three stages have three rules of what is an object. This network is tuned (`classifier="softmax"`) by the regions of
    an image that overlap an object by an IoU of 0.5 or more, the object itself among them, against all others, 32 to 96. A
    stage with `fit="fit_svms"` fits the SVMs that then score (`classifier="svm"`): objects against what overlaps those of
    the class by less than 0.3. A stage with `fit="fit_boxes"` fits the box regression by proposals above 0.6.

    trunk: "alexnet", "zf5", or "vgg11" ... "vgg19" (side 224), of which depths, widths and norm may differ.
    samples: of each image; the paper's 128 are of a step, so that there they are divided by the images of a batch.
    Departures: RGB by ImageNet's mean and deviation, torchvision's AlexNet, scores of SVMs through a sigmoid, and at most
    `detections` an image for all classes together, where the authors keep 100 of each.
    Raises ValueError for a trunk, norm, context or classifier that cannot be meant.
    """
    if not 0 <= 2 * context < side:
        raise ValueError(f"context {context} on both edges leaves nothing of {side} pixels.")
    module, is_vgg = make_trunk(trunk, depths, widths, norm, axis=axis, remat=remat, dtype=dtype)
    model = RCNN(
        trunk=module,
        num_classes=num_classes,
        fc=fc,
        dropout=dropout,
        classifier=check_classifier(classifier),
        samples=samples,
        positive_fraction=positive_fraction,
        least_overlap=0.0,
        score_threshold=score_threshold,
        nms_threshold=nms_threshold,
        detections=detections,
        candidates=candidates,
        dtype=dtype,
        side=side,
        context=context,
        pooled=f"c{len(module.depths)}" if is_vgg else "pool5",
        chunk=chunk,
    )
    return Architecture("rcnn", model, losses, predict, "region_detection")
