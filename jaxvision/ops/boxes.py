"""Boxes `x1 y1 x2 y2` in pixels, x2 and y2 being the right and lower edges: measures and the coding of box offsets."""

import math

import jax.numpy as jnp
from jax import Array

MAX_LOG_SCALE = math.log(1000 / 16)
SHORTEST = 1e-6  # a box with a side below this counts as empty: the squares in gradients must not underflow


def area(boxes: Array) -> Array:
    """Areas (...) of boxes (..., 4) in square pixels; an empty or inverted box has area 0."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def _ratio(numerator: Array, denominator: Array) -> Array:
    usable = denominator > SHORTEST**2
    return jnp.where(usable, numerator / jnp.where(usable, denominator, 1), 0)


def _intersection_and_union(a: Array, b: Array) -> tuple[Array, Array]:
    corners = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])
    intersection = area(jnp.concatenate(corners, -1))
    return intersection, area(a) + area(b) - intersection


def iou(a: Array, b: Array) -> Array:
    """Intersection over union (N, M) of boxes a (N, 4) and b (M, 4); two empty boxes have 0, never NaN."""
    return _ratio(*_intersection_and_union(a[:, None], b))


def paired_giou(a: Array, b: Array) -> Array:
    """Generalised intersection over union (...) in -1..1 of boxes a (..., 4) with boxes b (..., 4), row by row.

    Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019. Two empty boxes at one point have 0.
    """
    intersection, union = _intersection_and_union(a, b)
    corners = jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:])
    hull = area(jnp.concatenate(corners, -1))
    return _ratio(intersection, union) - _ratio(hull - union, hull)


def giou(a: Array, b: Array) -> Array:
    """Generalised intersection over union (N, M) of boxes a (N, 4) and b (M, 4); see `paired_giou`."""
    return paired_giou(a[:, None], b)


def clip(boxes: Array, size) -> Array:
    """Boxes (..., 4) cut to a picture of `size` = (height, width), which may be a traced array (2,)."""
    height, width = size
    return jnp.stack([jnp.clip(boxes[..., i], 0, limit) for i, limit in enumerate((width, height, width, height))], -1)


def xyxy_to_xywh(boxes: Array) -> Array:
    """`x1 y1 x2 y2` to `x1 y1 width height` (COCO's form)."""
    return jnp.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1)


def xywh_to_xyxy(boxes: Array) -> Array:
    """`x1 y1 width height` to `x1 y1 x2 y2`."""
    return jnp.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1)


def xyxy_to_cxcywh(boxes: Array) -> Array:
    """`x1 y1 x2 y2` to `centre_x centre_y width height`."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return jnp.concatenate([boxes[..., :2] + sides / 2, sides], -1)


def cxcywh_to_xyxy(boxes: Array) -> Array:
    """`centre_x centre_y width height` to `x1 y1 x2 y2`."""
    half = boxes[..., 2:] / 2
    return jnp.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def _unit_where_empty(boxes: Array) -> Array:
    whole = (boxes[..., 2:] - boxes[..., :2] > SHORTEST).all(-1, keepdims=True)
    return jnp.where(whole, boxes, jnp.array([0, 0, 1, 1], boxes.dtype))


def encode(boxes: Array, anchors: Array, weights=(1, 1, 1, 1)) -> Array:
    """Offsets (..., 4) `dx dy dw dh` from anchors (..., 4) to boxes (..., 4), times `weights`.

    The parametrisation of R-CNN (Girshick et al., CVPR 2014, appendix C). A degenerate box or anchor, as in rows that
    only pad, is replaced by a unit box, so that neither the value nor the gradient is ever NaN.
    """
    boxes, anchors = (xyxy_to_cxcywh(_unit_where_empty(b)) for b in (boxes, anchors))
    shift = (boxes[..., :2] - anchors[..., :2]) / anchors[..., 2:]
    scale = jnp.log(boxes[..., 2:] / anchors[..., 2:])
    return jnp.concatenate([shift, scale], -1) * jnp.array(weights, boxes.dtype)


def decode(deltas: Array, anchors: Array, weights=(1, 1, 1, 1), max_log_scale: float = MAX_LOG_SCALE) -> Array:
    """Boxes (..., 4) from offsets (..., 4) and anchors (..., 4): the inverse of `encode`.

    `dw` and `dh` are cut at `max_log_scale`, as torchvision does: a box grows at most 62.5-fold by default.
    """
    deltas = deltas / jnp.array(weights, deltas.dtype)
    anchors = xyxy_to_cxcywh(anchors)
    centre = deltas[..., :2] * anchors[..., 2:] + anchors[..., :2]
    sides = jnp.exp(jnp.minimum(deltas[..., 2:], max_log_scale)) * anchors[..., 2:]
    return cxcywh_to_xyxy(jnp.concatenate([centre, sides], -1))
