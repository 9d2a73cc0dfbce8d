"""Detection by a sliding window: a classifier, with a class for the background, looks at every window of a picture.

The second idea, and how it fails: an object is found only where a window fits it, in place, size and form, so there must be
many windows, and each is a forward pass. `WindowClassifier.cost` says how much more is looked at than the picture has:
with the defaults 128 x 128 pixels are 2,237 windows, each seen at 16 x 16, 35 times the picture's pixels, and 512 x 512
pixels are 41,521 windows, 41 times; nothing that one window's pass computes serves another. With wider steps fewer windows
fit, and boxes are no better than the steps. (`sliding_window`, a segmenter, shows how convolutions share the work.) What came
after looks at few regions that promise something (R-CNN), or moves coarse windows to their objects (Faster R-CNN, SSD).

Trained as classifiers of regions are (Girshick et al., "Rich feature hierarchies", CVPR 2014): on windows drawn by their
overlap with the objects, and the objects' own boxes among them. Boxes are not regressed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.batch import real_rows
from jaxvision.layers.conv import he_normal
from jaxvision.losses.cross_entropy import softmax_cross_entropy
from jaxvision.losses.reduction import spread
from jaxvision.models.backbones.classification import network_input
from jaxvision.models.backbones.vgg import VGG
from jaxvision.models.detection.single_shot.detect import detect_by_class, predict
from jaxvision.ops import boxes as box_ops
from jaxvision.ops.matching import BELOW, match
from jaxvision.ops.roi import roi_align
from jaxvision.ops.sampling import sample


def dense_windows(canvas: tuple[int, int], sides: Sequence[float], ratios: Sequence[float], step: float) -> np.ndarray:
    """Windows (A,4) float32 all over the canvas (height, width), form by form, row by row.

    Each of sides x ratios is a form, of side² pixels and height / width = ratio. Windows of a form are at most `step` of
    their own width and height apart, and the outermost touch the canvas's edges. Forms that do not fit are left out; raises
    ValueError where none does.
    """
    windows = []
    for side in sides:
        for ratio in ratios:
            width, height = side / np.sqrt(ratio), side * np.sqrt(ratio)
            room = np.array([canvas[1] - width, canvas[0] - height])
            if room.min() < 0:
                continue
            counts = np.ceil(room / (step * np.array([width, height])) - 1e-6).astype(int) + 1
            x, y = np.meshgrid(*(np.linspace(0, most, count) for most, count in zip(room, counts)))
            windows.append(np.stack([x, y, x + width, y + height], -1).reshape(-1, 4))
    if not windows:
        raise ValueError(f"No window of sides {tuple(sides)} and ratios {tuple(ratios)} fits a canvas of {canvas}.")
    return np.concatenate(windows).astype(np.float32)


class WindowClassifier(nn.Module):
    """Class scores of windows, each cut out and resized to `view` x `view` pixels, bilinearly.

    With train=False `windows` (A,4), `logits` (B,A,num_classes) and the detections as `jaxvision.batch` names them, which no
    ground truth touches. With `boxes` in the batch `sample_logits` (B,S,num_classes), `sample_classes` and `sample_valid`
    (B,S): of S windows drawn from all and from the objects' boxes, at most a `fraction` of them objects, which overlap
    one by `positive_iou`; background overlaps none by `negative_iou`. The trunk's maps have a row for each window that was
    seen, those that were sampled behind the others of their image.
    """

    trunk: VGG
    num_classes: int
    sides: Sequence[float]
    ratios: Sequence[float]
    step: float
    view: int
    fc: int
    dropout: float
    samples: int
    fraction: float
    positive_iou: float
    negative_iou: float
    options: Mapping[str, Any]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x = network_input(batch)
        count = len(x)
        windows = jnp.array(dense_windows(x.shape[1:3], self.sides, self.ratios, self.step))
        outputs, seen = {"windows": windows}, []
        if not train:
            seen.append(jnp.broadcast_to(windows, (count, *windows.shape)))
        if "boxes" in batch:
            key = self.make_rng("sampler") if train else jax.random.key(0)
            draw = jax.vmap(lambda key, *objects: self._draw(key, windows, *objects))
            objects = (batch[name] for name in ("boxes", "valid", "classes"))
            drawn, outputs["sample_classes"], outputs["sample_valid"] = draw(jax.random.split(key, count), *objects)
            seen.append(drawn)
        seen = jnp.concatenate(seen, 1)
        patches = jax.vmap(lambda image, rois: roi_align(image, rois, self.view, 1.0, sampling_ratio=1))(x, seen)
        maps = self.trunk(patches.reshape(-1, self.view, self.view, 3), train)
        x = maps[f"c{len(maps)}"].reshape(count * seen.shape[1], -1)
        x = nn.relu(nn.Dense(self.fc, kernel_init=he_normal, dtype=self.dtype, name="fc")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        logits = nn.Dense(self.num_classes, name="head")(x.astype(jnp.float32)).reshape(count, seen.shape[1], -1)
        if "boxes" in batch:
            outputs["sample_logits"] = logits[:, seen.shape[1] - self.samples :]
        if not train:
            outputs["logits"] = logits[:, : len(windows)]
            boxes = jax.vmap(box_ops.clip, (None, 0))(windows, batch["image_size"])
            scores, logits = jax.nn.softmax(outputs["logits"])[..., 1:], outputs["logits"][..., 1:]
            outputs |= detect_by_class(boxes, scores, logits=logits, **self.options)
        return {**maps, **outputs}

    def _draw(self, key, windows, boxes, valid, classes):
        """Windows (S,4) of an image to learn from, their classes (S,), 0 being background, and which of them exist (S,)."""
        windows = jnp.concatenate([windows, boxes])
        exists = jnp.arange(len(windows)) < len(windows) - len(boxes)
        exists = exists.at[-len(boxes) :].set(valid)
        matches = match(box_ops.iou(boxes, windows), valid, self.positive_iou, self.negative_iou)
        priorities = jax.random.uniform(key, matches.shape)
        positive, negative = (matches >= 0) & exists, (matches == BELOW) & exists
        rows, found, is_object = sample(positive, negative, priorities, self.samples, self.fraction)
        return windows[rows], jnp.where(is_object, classes[jnp.maximum(matches[rows], 0)], 0), found

    def cost(self, canvas: tuple[int, int]) -> tuple[int, float]:
        """(windows of a picture, how many times its pixels they are seen as)."""
        count = len(dense_windows(canvas, self.sides, self.ratios, self.step))
        return count, count * self.view**2 / (canvas[0] * canvas[1])


def losses(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict:
    """`class`: cross-entropy of the windows that were drawn."""
    valid = outputs["sample_valid"]
    real = spread(real_rows(batch), valid.shape)
    return {"class": softmax_cross_entropy(outputs["sample_logits"], outputs["sample_classes"], valid & real)}


def sliding_window_detector(
    num_classes: int,
    sides: Sequence[float] = (16, 24, 36, 54),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    step: float = 0.35,
    view: int = 16,
    depths: Sequence[int] = (1, 1, 1),
    widths: Sequence[int] = (16, 32, 64),
    fc: int = 256,
    dropout: float = 0.5,
    samples: int = 64,
    fraction: float = 0.25,
    positive_iou: float = 0.5,
    negative_iou: float = 0.5,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.3,
    candidates: int = 200,
    detections: int = 100,
    norm: str = "none",
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    """A classifier of windows; see above.

    sides, ratios, step: of the windows, in pixels of the canvas, see `dense_windows`. view: pixels at which each is seen.
    depths, widths, norm: of the blocks of a VGG; fc: channels before the scores. samples, fraction, positive_iou,
    negative_iou: see `WindowClassifier`. candidates: windows a class that NMS sees.
    Raises ValueError for windows without steps, and a view of which the trunk leaves nothing.
    """
    if step <= 0:
        raise ValueError(f"step is the share of a window by which the next is moved, above 0, got {step}.")
    if view < 2 ** len(depths):
        raise ValueError(
            f"A view of {view} pixels is too small for {len(depths)} pools: {2 ** len(depths)} are needed."
        )
    model = WindowClassifier(
        trunk=VGG(tuple(depths), tuple(widths), norm=norm, axis=axis, remat=remat, dtype=dtype),
        num_classes=num_classes,
        sides=tuple(sides),
        ratios=tuple(ratios),
        step=step,
        view=view,
        fc=fc,
        dropout=dropout,
        samples=samples,
        fraction=fraction,
        positive_iou=positive_iou,
        negative_iou=negative_iou,
        options=dict(
            score_threshold=score_threshold, nms_threshold=nms_threshold, candidates=candidates, detections=detections
        ),
        dtype=dtype,
    )
    return Architecture("sliding_window_detector", model, losses, predict, "detection")
