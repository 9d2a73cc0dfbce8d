"""YOLO and Fast YOLO (Redmon et al., "You Only Look Once: Unified, Real-Time Object Detection", CVPR 2016).

The form of the paper, whose Darknet file is cfg/yolo.cfg of that time; today's yolov1.cfg is another network. A picture is
squashed to 448 x 448, its shape not kept (`data.stretch`). 24 convolutions (Fast YOLO: 9) and two connected layers (Fast
YOLO: three) see all of it, and 7 x 7 cells predict 2 boxes each and one distribution over the classes. Nothing is proposed
and nothing is resampled, at the price that a cell holds one object: at most 49 in a picture, and no two with their centres
in one cell.

There is no class for the background: a network for `num_classes` has num_classes - 1 of them, and class k is output k - 1.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.batch import real_rows
from jaxvision.layers.conv import Conv, he_normal
from jaxvision.losses.yolo import to_shares
from jaxvision.losses.yolo import yolo as yolo_terms
from jaxvision.models.backbones.darknet import FAST_YOLO, YOLO, Darknet, leaky
from jaxvision.models.detection.single_shot.detect import detect_by_class
from jaxvision.ops import boxes as box_ops
from jaxvision.ops.images import normalize

FORMS = {"yolo": (*YOLO, (4096,)), "fast_yolo": (*FAST_YOLO, (256, 4096))}


class Grid(nn.Module):
    """`coordinates` (B,S,S,n,4), `confidences` (B,S,S,n) and `logits` (B,S,S,objects), linear, beside the trunk's maps.

    See `jaxvision.losses.yolo` for what the coordinates are. fc: connected layers before the last; only the one before the
    last is rectified, and dropout is behind it. The last one's outputs are in Darknet's order: the classes of all cells,
    then all confidences, then all boxes. (Its first one's inputs are not: rows, columns, channels here, channels first
    there.) grid: S; None: each cell of the trunk's last map predicts, by a 1x1 convolution in place of the connected layers.
    """

    trunk: Darknet
    objects: int
    grid: int | None
    boxes: int
    fc: Sequence[int]
    dropout: float
    mean: Sequence[float]
    std: Sequence[float]
    dtype: Any

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        maps = self.trunk(normalize(batch["image"], batch["image_size"], self.mean, self.std), train)
        x = maps[f"c{len(maps)}"]
        count, n, c = len(x), self.boxes, self.objects
        if self.grid is None:
            x = Conv(c + 5 * n, 1, name="output")(x.astype(jnp.float32))
            rows, columns = x.shape[1:3]
            logits, confidences, coordinates = jnp.split(x, (c, c + n), -1)
        else:
            rows = columns = self.grid
            cells = rows * columns
            x = x.reshape(count, -1)
            for i, width in enumerate(self.fc):
                x = nn.Dense(width, kernel_init=he_normal, dtype=self.dtype, name=f"fc{i}")(x)
                x = leaky(x) if i == len(self.fc) - 1 else x
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = nn.Dense(cells * (c + 5 * n), name="output")(x.astype(jnp.float32))
            logits, confidences, coordinates = jnp.split(x, (cells * c, cells * (c + n)), -1)
        return {
            **maps,
            "logits": logits.reshape(count, rows, columns, c),
            "confidences": confidences.reshape(count, rows, columns, n),
            "coordinates": coordinates.reshape(count, rows, columns, n, 4),
        }


def losses(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict:
    """`coordinates`, `object`, `no_object` and `class`, sums of squares over the number of images."""
    height, width = batch["image"].shape[1:3]
    boxes = batch["boxes"] / jnp.array([width, height, width, height], jnp.float32)
    predicted = (outputs[name] for name in ("coordinates", "confidences", "logits"))
    return yolo_terms(*predicted, boxes, batch["classes"] - 1, batch["valid"], real_rows(batch))


def predict(outputs, batch, **options) -> dict[str, jax.Array]:
    """Every box of every cell with every class, its score confidence x class, thinned; see `detect_by_class`.

    A negative confidence or class counts as 0, or else the product of two of them would be a detection, as it is in Darknet.
    """
    count, height, width = batch["image"].shape[:3]
    boxes = to_shares(outputs["coordinates"]) * jnp.array([width, height, width, height])
    boxes = jax.vmap(box_ops.clip)(box_ops.cxcywh_to_xyxy(boxes).reshape(count, -1, 4), batch["image_size"])
    confidences, classes = jax.nn.relu(outputs["confidences"]), jax.nn.relu(outputs["logits"])
    scores = confidences[..., None] * classes[..., None, :]
    logits = jnp.broadcast_to(outputs["logits"][..., None, :], scores.shape)
    flat = (*boxes.shape[:2], -1)
    return detect_by_class(boxes, scores.reshape(flat), logits=logits.reshape(flat), **options)


def yolo(
    num_classes: int,
    form: str = "yolo",
    stages: Sequence[Sequence[tuple[int, int, int]]] | None = None,
    pools: int | None = None,
    fc: Sequence[int] | None = None,
    grid: int | None = 7,
    boxes: int = 2,
    dropout: float = 0.5,
    mean: Sequence[float] = (0.5,) * 3,
    std: Sequence[float] = (0.5,) * 3,
    score_threshold: float = 0.001,
    nms_threshold: float = 0.5,
    candidates: int = 400,
    detections: int = 100,
    norm: str = "none",
    axis: str | None = None,
    dtype: Any = jnp.float32,
) -> Architecture:
    """YOLO; the defaults are the paper's, which wants a canvas of 448 x 448 that the picture fills, its shape not kept.

    form: "yolo" or "fast_yolo"; stages, pools (see `Darknet`) and fc override parts of it. grid, boxes: cells along each
    side, and boxes of a cell, see `Grid`. mean, std: of the colours in 0..1; Darknet's network saw them in -1..1.
    score_threshold: of confidence x class. candidates: boxes a class that NMS sees; the paper's 98 all fit. The loss weights
    are the paper's: 5 for coordinates, 0.5 for confidences where there is no object.
    Departures, for small networks that begin from nothing: norm="batch", and grid=None, without connected layers.
    Raises ValueError for another form, and where no class is left beside the background.
    """
    if form not in FORMS:
        raise ValueError(f"form {form!r} is not one of {', '.join(FORMS)}.")
    if num_classes < 2:
        raise ValueError(f"num_classes counts the background too and is at least 2, got {num_classes}.")
    known = FORMS[form]
    stages, pools, fc = (own if option is None else option for option, own in zip((stages, pools, fc), known))
    stages = tuple(tuple(map(tuple, stage)) for stage in stages)
    model = Grid(
        trunk=Darknet(stages, pools, norm, axis, dtype),
        objects=num_classes - 1,
        grid=grid,
        boxes=boxes,
        fc=tuple(fc),
        dropout=dropout,
        mean=tuple(mean),
        std=tuple(std),
        dtype=dtype,
    )
    options = dict(
        score_threshold=score_threshold, nms_threshold=nms_threshold, candidates=candidates, detections=detections
    )
    weights = {"coordinates": 5.0, "no_object": 0.5}
    return Architecture("yolo", model, losses, functools.partial(predict, **options), "detection", weights)
