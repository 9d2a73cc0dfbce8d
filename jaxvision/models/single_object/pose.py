"""The joints of one person by direct regression, and the cascade that refines each (Toshev & Szegedy, "DeepPose: Human Pose
Estimation via Deep Neural Networks", CVPR 2014).

A network sees the person's box b and says where the joints are in it, (y - centre of b) / size of b. A later stage looks at a
square around each joint that the one before has found, `sigma` times the pose's diameter wide, and says where in it the joint
is. It learns from true joints that are displaced as the stage before displaces them, by a Gaussian fitted to its errors on
the training images: `fit_errors`, a stage of the config between two trainings (`configs/deeppose_scenes.py`).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.batch import INPUTS, real_rows
from jaxvision.data.loader import load
from jaxvision.losses.reduction import spread
from jaxvision.models.backbones.trunk import classifier_trunk
from jaxvision.models.single_object.features import dense_features, regression_loss
from jaxvision.ops.images import normalize
from jaxvision.ops.warp import warp

FRAMES = ("image", "box")
SMALLEST = 1.0  # pixels of a pose's diameter: no square is empty
UNKNOWN = np.array([0.0, 0.1], np.float32)  # mean and deviation of errors that were not measured yet, in diameters


class Head(NamedTuple):
    """What follows the trunk; see `pose`."""

    joints: int
    level: str | None
    cells: int
    fc: Sequence[int]
    dropout: float
    dtype: Any

    def __call__(self, maps: Mapping[str, jax.Array], train: bool) -> jax.Array:
        """(B,J,2) where the joints are, in shares of the picture, 0 being its middle, by layers of the calling module."""
        x = dense_features(maps, self.level, self.cells, self.fc, self.dropout, train, self.dtype)
        # Zeros: a new later stage leaves the joints where they are.
        places = nn.Dense(2 * self.joints, kernel_init=nn.initializers.zeros, name="joints")(x)
        return places.reshape(-1, self.joints, 2)


class Stage(nn.Module):
    """A later stage: squares (B,s,s,3), normalised, to the places of all joints (B,J,2); of each square one joint's is read."""

    trunk: nn.Module
    head: Head

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.head(self.trunk(x, train), train)


class Pose(nn.Module):
    """`joints` (B,J,2) in pixels of the canvas, as the last stage leaves them, beside the first stage's maps.

    What learns is the last stage. Of one: `places` (B,J,2) in shares of the `frames` (B,4) that it sees. Of more, where the
    batch has joints: `places`, `targets` (B,samples,2) and `counted` (B,samples), of true joints that were displaced; in
    training the stages before are not run.
    """

    trunk: nn.Module
    head: Head
    stages: int
    frame: str
    side: int
    sigma: float
    torso: tuple[int, int]
    samples: int
    mean: Sequence[float]
    std: Sequence[float]

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        if "keypoints" in batch and batch["keypoints"].shape[2] != self.head.joints:
            raise ValueError(
                f"The set has {batch['keypoints'].shape[2]} joints, the network {self.head.joints}: set architecture.joints."
            )
        image = normalize(batch["image"], batch["image_size"], self.mean, self.std)
        later = {s: Stage(self.trunk.copy(parent=None), self.head, name=f"stage{s}") for s in range(2, self.stages + 1)}
        errors = {s: self.param(f"errors{s}", unmeasured, (2, self.head.joints, 2)) for s in later}
        if self.stages == 1 or not train:
            outputs = self._first(image, batch, train)
        else:
            outputs, later = {}, {self.stages: later[self.stages]}
        for number, stage in later.items():
            drawn = None
            if number == self.stages and "keypoints" in batch:
                drawn = self._draw(batch, errors[number], self.make_rng("sampler") if train else jax.random.key(0))
            outputs |= self._look(image, stage, drawn, outputs.get("joints"), train)
        return outputs

    def _first(self, image, batch, train):
        height, width = image.shape[1:3]
        frames = jnp.broadcast_to(jnp.array([0, 0, width, height], jnp.float32), (len(image), 4))
        if self.frame == "box":
            whole = jnp.concatenate([jnp.zeros_like(batch["image_size"]), batch["image_size"][:, ::-1]], 1)
            frames = jnp.where(batch["proposals_valid"][:, :1], batch["proposals"][:, 0], whole.astype(jnp.float32))
            image = self._squares(image, frames[:, None])[:, 0]
        maps = self.trunk(image, train)
        places = self.head(maps, train)
        return {**maps, "places": places, "frames": frames, "joints": from_places(places, frames[:, None])}

    def _draw(self, batch, errors, key):
        """`displaced` joints of every image."""
        draw = functools.partial(displaced, sigma=self.sigma, torso=self.torso, samples=self.samples)
        keys = jax.random.split(key, len(batch["image"]))
        return jax.vmap(draw, (0, 0, None, 0))(batch["keypoints"][:, 0], batch["valid"][:, 0], errors, keys)

    def _look(self, image, stage, drawn, joints, train):
        """What a later stage says of the squares that were drawn, and of those around joints (B,J,2), as far as given."""
        rows, boxes = [], []
        if drawn:
            rows, boxes = [drawn[0]], [drawn[1]]
        if joints is not None:
            rows.append(jnp.broadcast_to(jnp.arange(self.head.joints), joints.shape[:2]))
            boxes.append(squares_around(joints, self.sigma * diameter(joints, self.torso)[:, None]))
        # All squares at once: the trunk's maps have one name each.
        rows, every = jnp.concatenate(rows, 1), jnp.concatenate(boxes, 1)
        squares = self._squares(image, every)
        places = stage(squares.reshape(-1, *squares.shape[2:]), train).reshape(*rows.shape, -1, 2)
        places = jnp.take_along_axis(places, rows[..., None, None], 2)[:, :, 0]
        outputs = {}
        if drawn:
            outputs = {"places": places[:, : drawn[0].shape[1]], "targets": drawn[2], "counted": drawn[3]}
        if joints is not None:
            outputs["joints"] = from_places(places[:, -self.head.joints :], boxes[-1])
        return outputs

    def _squares(self, image, boxes):
        """What lies in boxes (B,R,4), stretched to (B,R,side,side,3)."""
        return jax.vmap(lambda image, boxes: warp(image, boxes, self.side))(image, jax.lax.stop_gradient(boxes))


def unmeasured(key, shape) -> jax.Array:
    return jnp.broadcast_to(UNKNOWN[:, None, None], shape)


def diameter(joints: jax.Array, torso: tuple[int, int]) -> jax.Array:
    """(...) the distance between opposite joints of the torso, of joints (...,J,2)."""
    square = ((joints[..., torso[0], :] - joints[..., torso[1], :]) ** 2).sum(-1)
    return jnp.sqrt(jnp.maximum(square, SMALLEST**2))  # whose gradient is finite where the two are one


def squares_around(centres: jax.Array, sides: jax.Array) -> jax.Array:
    """Boxes (...,4) around (...,2) with `sides` (...)."""
    half = sides[..., None] / 2
    return jnp.concatenate([centres - half, centres + half], -1)


def to_places(points: jax.Array, boxes: jax.Array) -> jax.Array:
    """Points (...,2) in shares of boxes (...,4), 0 being the middle."""
    return (points - (boxes[..., :2] + boxes[..., 2:]) / 2) / (boxes[..., 2:] - boxes[..., :2])


def from_places(places: jax.Array, boxes: jax.Array) -> jax.Array:
    """The inverse of `to_places`."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2 + places * (boxes[..., 2:] - boxes[..., :2])


def displaced(keypoints, valid, errors, key, *, sigma: float, torso: tuple[int, int], samples: int):
    """Squares around joints of one person that were moved as an earlier stage moves them.

    keypoints (J,3), valid: of the person; errors (2,J,2): mean and deviation in diameters. Returns (rows (samples,), the
    joints, drawn from the labelled ones; boxes (samples,4); targets (samples,2), where in them the joints are; counted
    (samples,), False where no joint was left, or the diameter is not known).
    """
    first, second = jax.random.split(key)
    labelled = keypoints[:, 2] > 0
    known = labelled & labelled[np.array(torso)].all() & valid
    _, rows = jax.lax.top_k(jnp.where(known, jax.random.uniform(first, known.shape), -1), min(samples, len(known)))
    points, extent = keypoints[rows, :2], diameter(keypoints[:, :2], torso)
    mean, deviation = jax.lax.stop_gradient(errors)[:, rows]
    moved = points + extent * (mean + deviation * jax.random.normal(second, points.shape))
    boxes = squares_around(moved, jnp.full(len(rows), sigma * extent))
    return rows, boxes, to_places(points, boxes), known[rows]


def losses(
    outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, joint_loss: Callable
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """`joint`, over the labelled joints of each image's first object."""
    if "targets" in outputs:
        targets, counted = outputs["targets"], outputs["counted"]
    else:
        targets = to_places(batch["keypoints"][:, 0, :, :2], outputs["frames"][:, None])
        counted = (batch["keypoints"][:, 0, :, 2] > 0) & batch["valid"][:, :1]
    return {"joint": joint_loss(outputs["places"], targets, counted & spread(real_rows(batch), counted.shape))}


def predict(outputs, batch) -> dict[str, jax.Array]:
    """`joints` (B,J,3): x, y in pixels of the canvas, and 1."""
    joints = outputs["joints"]
    return {"joints": jnp.concatenate([joints, jnp.ones_like(joints[..., :1])], -1)}


def fit_errors(architecture, variables, source, directory, batches):
    """A stage's function: the mean and deviation of the errors, in diameters, that all stages but the last make on the
    training images, as `errorsS` of the last stage S.

    Raises ValueError where there is one stage only, and for a joint that no image has labelled beside the torso.
    """
    model = architecture.model
    if model.stages < 2:
        raise ValueError("fit_errors measures what a later stage learns from: set architecture.stages to 2 or more.")
    find = jax.jit(lambda variables, batch: model.clone(stages=model.stages - 1).apply(variables, batch)["joints"])
    variables, rows = jax.device_put(variables), []
    for batch in tqdm.tqdm(load(batches), total=len(batches), desc="errors", unit="batch", mininterval=5):
        joints = np.asarray(find(variables, {name: batch[name] for name in INPUTS if name in batch}), np.float64)
        truth = batch["keypoints"][:, 0]
        labelled = (truth[..., 2] > 0) & (batch["real"] & batch["valid"][:, 0])[:, None]
        labelled &= labelled[:, list(model.torso)].all(1, keepdims=True)
        extent = np.asarray(diameter(truth[..., :2], model.torso))[:, None, None]
        rows.append(np.where(labelled[..., None], (joints - truth[..., :2]) / extent, np.nan))
    errors = np.concatenate(rows)
    if (missing := np.isnan(errors).all((0, 2))).any():
        names = [source.keypoint_names[i] for i in np.flatnonzero(missing)]
        raise ValueError(f"No image of {source.name!r} shows {', '.join(names)} and the torso; give more images.")
    measured = np.stack([np.nanmean(errors, 0), np.nanstd(errors, 0)]).astype(np.float32)
    variables = jax.device_get(variables)
    return {**variables, "params": {**variables["params"], f"errors{model.stages}": measured}}


def pose(
    num_classes: int = 2,
    joints: int = 14,
    backbone: str | Mapping[str, Any] = "alexnet",
    stages: int = 1,
    frame: str = "image",
    side: int = 220,
    sigma: float = 2.0,
    torso: Sequence[int] = (9, 2),
    samples: int = 4,
    loss: str = "l2",
    beta: float = 0.05,
    level: str | None = None,
    cells: int = 6,
    fc: Sequence[int] = (4096, 4096),
    dropout: float = 0.5,
    norm: str | None = None,
    axis: str | None = None,
    remat: bool | None = None,
    dtype: Any = jnp.float32,
) -> Architecture:
    """The joints of one person; the defaults are DeepPose's on Leeds Sports Pose.

    num_classes: as every architecture has it; a pose has no classes. joints: as many as the set names.
    backbone, norm, axis, remat, dtype, level, cells, fc, dropout: as in `classification_localization`, for every stage.
    stages: of the cascade, of which the last is learnt: `optimizer.trainable="^stage2/"`. frame: what the first stage sees,
      "image", the canvas, or "box", the first proposal of the image, as a detector or a source gives it, stretched to side x
      side pixels, to which later stages stretch their squares too.
    sigma: side of a later stage's squares in diameters (the paper's 1 on FLIC, 2 on LSP). torso: the joints whose distance is
      the diameter, left shoulder and right hip. samples: joints of an image that a later stage sees in a step.
    loss, beta: "l2", "l1" or "smooth_l1", in shares of the frame or the square. Joints that are not labelled do not count.
    Departures: torchvision's AlexNet without local normalisation of contrast; errors are measured in diameters, so that they
    fit persons of all sizes; images without a labelled torso teach later stages nothing.
    Raises ValueError for a backbone, loss, frame, torso or number that cannot be meant.
    """
    if frame not in FRAMES:
        raise ValueError(f"frame {frame!r} is not one of {', '.join(FRAMES)}.")
    if len(torso) != 2 or not all(0 <= joint < joints for joint in torso):
        raise ValueError(f"torso {tuple(torso)!r} must be two of the {joints} joints, counted from 0.")
    if min(stages, samples, side) < 1 or sigma <= 0:
        raise ValueError(f"stages {stages}, samples {samples}, side {side} and sigma {sigma} must be positive.")
    trunk, mean, std = classifier_trunk(backbone, norm=norm, axis=axis, remat=remat, dtype=dtype)
    head = Head(joints, level, cells, tuple(fc), dropout, dtype)
    model = Pose(trunk, head, stages, frame, side, sigma, tuple(torso), samples, tuple(mean), tuple(std))
    task = "pose" if frame == "image" else "region_pose"
    return Architecture("pose", model, functools.partial(losses, joint_loss=regression_loss(loss, beta)), predict, task)
