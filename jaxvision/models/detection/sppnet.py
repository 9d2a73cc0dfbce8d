"""SPP-net for detection (He, Zhang, Ren & Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks", ECCV 2014)."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.architecture import Architecture
from jaxvision.models.backbones.classification import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.models.detection import region_fit
from jaxvision.models.detection.region_detector import RegionDetector, check_classifier, losses, make_trunk
from jaxvision.models.detection.single_shot.detect import predict
from jaxvision.ops import boxes as box_ops
from jaxvision.ops.images import normalize
from jaxvision.ops.pyramid_pool import map_windows, pyramid_pool
from jaxvision.ops.resize import resize


class SPPNet(RegionDetector):
    """The trunk sees the image once, and each region is a window of its last map, pooled by a pyramid of bins.

    levels: bins a side, 1, 2, 3, 6 by default, 50 in all. scales: of the canvas; each region is taken from the one at which
    its area is nearest to window² pixels. tune_trunk: whether training changes the convolutions; the paper tunes the dense
    layers alone. The trunk's maps are those of the first scale.
    """

    levels: Sequence[int] = (1, 2, 3, 6)
    scales: Sequence[float] = (1.0,)
    window: float = 224
    tune_trunk: bool = False
    last: str = "c5"

    def pool(self, batch: Mapping[str, jax.Array], regions: jax.Array, train: bool) -> tuple[jax.Array, dict]:
        image = normalize(batch["image"], batch["image_size"], IMAGENET_MEAN, IMAGENET_STD)
        regions = jax.lax.stop_gradient(regions)
        geometry = self.trunk.geometry()[self.last]
        shown, choices = {}, []
        # A map has one name, and so one size where variables are made.
        for scale in self.scales[:1] if self.is_initializing() else self.scales:
            size = tuple(max(1, round(side * scale)) for side in image.shape[1:3])
            maps = self.trunk(image if scale == 1 else resize(image, size), train)
            shown = shown or maps
            features = maps[self.last].astype(jnp.float32)
            ratio = jnp.array([size[1] / image.shape[2], size[0] / image.shape[1]] * 2, jnp.float32)
            # In pixels whose first edge is at 0, where the geometry has the first centre there.
            place = functools.partial(
                map_windows, stride=geometry.stride, start=geometry.start + 0.5, size=features.shape[1:3]
            )
            windows = jax.vmap(place)(regions * ratio)
            choices.append(jax.vmap(functools.partial(pyramid_pool, levels=self.levels))(features, windows))
        pooled = choices[0]
        if len(choices) > 1:
            areas = box_ops.area(regions)[..., None] * jnp.array(self.scales, jnp.float32) ** 2
            nearest = abs(areas - self.window**2).argmin(-1)
            for i, choice in enumerate(choices[1:], 1):
                pooled = jnp.where((nearest == i)[..., None, None], choice, pooled)
        pooled = pooled.reshape(*regions.shape[:2], -1)
        return pooled if self.tune_trunk or not train else jax.lax.stop_gradient(pooled), shown


def fit_svms(architecture, variables, source, directory, batches):
    """A stage's function: as R-CNN's, and negatives that overlap one another by more than 0.7 count once."""
    return region_fit.fit_svms(architecture, variables, batches, duplicates=0.7)


def fit_boxes(architecture, variables, source, directory, batches):
    """A stage's function: the box regression, from proposals of an IoU above 0.5."""
    return region_fit.fit_boxes(architecture, variables, batches, directory, above=0.5)


def sppnet(
    num_classes: int,
    trunk: str = "zf5",
    depths: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    norm: str = "none",
    level: str | None = None,
    levels: Sequence[int] = (1, 2, 3, 6),
    scales: Sequence[float] = (1.0,),
    window: float = 224,
    tune_trunk: bool = False,
    fc: int = 4096,
    dropout: float = 0.5,
    classifier: str = "softmax",
    samples: int = 128,
    positive_fraction: float = 0.25,
    least_overlap: float = 0.1,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.3,
    detections: int = 100,
    candidates: int = 2000,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """SPP-net; the defaults are the paper's, on ZF-5 and at one scale. Its stages are R-CNN's, see `rcnn`.

    trunk: "zf5", "alexnet", or "vgg11" ... "vgg19", of which depths, widths and norm may differ.
    level: of the trunk's maps that which windows are of; by default the last, "c5", of stride 16, a VGG's of stride 32.
    levels: (1, 2, 3, 6) is the paper's 50 bins for detection, (4, 2, 1) its 21.
    scales: of the canvas, the paper's five being (480, 576, 688, 864, 1200) / 688 on a canvas whose shorter side is 688;
      window: the side of the square whose area a region should have on the scale that it is taken from.
    least_overlap: regions to learn from as background overlap some object by an IoU from here to 0.5.
    Departures: no local response normalisation in ZF-5, RGB by ImageNet's mean and deviation; a cell's centre is where the
    trunk's padding has it, of which the paper's rule is the case of padding by half of every kernel; and as `rcnn`.
    Raises ValueError for a trunk, norm, level, scales or classifier that cannot be meant.
    """
    if not levels or min(levels) < 1 or not scales or min(scales) <= 0:
        raise ValueError(f"levels and scales are positive, got {tuple(levels)} and {tuple(scales)}.")
    module, is_vgg = make_trunk(trunk, depths, widths, norm, axis=axis, remat=remat, dtype=dtype)
    if level is not None and level not in module.geometry():
        raise ValueError(f"The trunk {trunk!r} has no map {level!r}; it has {', '.join(module.geometry())}.")
    model = SPPNet(
        trunk=module,
        num_classes=num_classes,
        fc=fc,
        dropout=dropout,
        classifier=check_classifier(classifier),
        samples=samples,
        positive_fraction=positive_fraction,
        least_overlap=least_overlap,
        score_threshold=score_threshold,
        nms_threshold=nms_threshold,
        detections=detections,
        candidates=candidates,
        dtype=dtype,
        levels=tuple(levels),
        scales=tuple(scales),
        window=window,
        tune_trunk=tune_trunk,
        last=level or (f"c{len(module.depths)}" if is_vgg else "c5"),
    )
    return Architecture("sppnet", model, losses, predict, "region_detection")
