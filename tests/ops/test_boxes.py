import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.ops import boxes as box_ops

BOXES = GOLDEN["boxes"]
finite = st.floats(-50, 50, width=32)


def test_iou_and_giou_are_torchvisions():
    np.testing.assert_allclose(jax.jit(box_ops.iou)(BOXES[:20], BOXES[20:50]), GOLDEN["iou"], atol=1e-6)
    np.testing.assert_allclose(jax.jit(box_ops.giou)(BOXES[:20], BOXES[20:50]), GOLDEN["giou"], atol=1e-6)


def test_coding_and_clipping_are_torchvisions():
    weights = (10, 10, 5, 5)
    deltas = GOLDEN["box_encode"]
    np.testing.assert_allclose(box_ops.encode(BOXES[:50], BOXES[50:100], weights), deltas, rtol=1e-5, atol=1e-5)
    decoded = box_ops.decode(deltas + 3 * np.sin(deltas), BOXES[50:100], weights)
    np.testing.assert_allclose(decoded, GOLDEN["box_decode"], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(jax.jit(box_ops.clip)(BOXES - 20, jnp.array([90, 110])), GOLDEN["clip"])


def test_decoded_growth_is_limited():
    box = box_ops.decode(jnp.array([0.0, 0, 50, -50]), jnp.array([0.0, 0, 16, 16]))
    assert box[2] - box[0] == pytest.approx(1000, rel=1e-5)
    assert box[3] - box[1] < 1e-6


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(finite, finite, finite, finite), min_size=4, max_size=4))
def test_any_corners_give_finite_values_and_gradients(corners):
    boxes = jnp.array(corners, jnp.float32)  # inverted and empty ones among them
    values, gradients = everything(boxes, boxes[::-1])
    assert all(np.isfinite(v).all() for v in values)
    assert np.isfinite(gradients).all()
    iou, giou = values[:2]
    assert ((iou >= 0) & (iou <= 1 + 1e-6)).all()
    assert ((giou >= -1 - 1e-6) & (giou <= iou + 1e-6)).all()


@jax.jit
def everything(a, b):
    def values(a):
        return box_ops.iou(a, b), box_ops.giou(a, b), box_ops.encode(a, b), box_ops.encode(b, a)

    return values(a), jax.grad(lambda a: sum(v.sum() for v in values(a)))(a)


def test_encode_of_a_padded_row_has_no_gradient():
    anchors = jnp.array([[0.0, 0, 10, 10]])
    gradient = jax.grad(lambda b: box_ops.encode(b, anchors).sum())(jnp.zeros((1, 4)))
    np.testing.assert_array_equal(gradient, 0)


def test_forms():
    boxes = jnp.array([[1.0, 2, 5, 10]])
    np.testing.assert_array_equal(box_ops.xyxy_to_xywh(boxes), [[1, 2, 4, 8]])
    np.testing.assert_array_equal(box_ops.xyxy_to_cxcywh(boxes), [[3, 6, 4, 8]])
    np.testing.assert_array_equal(box_ops.xywh_to_xyxy(box_ops.xyxy_to_xywh(boxes)), boxes)
    np.testing.assert_array_equal(box_ops.cxcywh_to_xyxy(box_ops.xyxy_to_cxcywh(boxes)), boxes)
    np.testing.assert_array_equal(box_ops.area(jnp.array([[1, 2, 5, 10], [5, 10, 1, 2], [3, 3, 3, 9]])), [32, 0, 0])
