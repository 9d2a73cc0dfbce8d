import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN, nhwc

from jaxvision.ops import keypoints as ops
from jaxvision.ops.keypoints import heatmap_keypoints, keypoint_cells
from jaxvision.ops.resize import resize

cells = jax.jit(keypoint_cells, static_argnums=2)
decode = jax.jit(heatmap_keypoints)


def test_cells_are_torchvisions():
    found, valid = cells(GOLDEN["keypoints"], GOLDEN["keypoint_boxes"], 56)
    np.testing.assert_array_equal(found, GOLDEN["keypoint_cells"])
    np.testing.assert_array_equal(valid, GOLDEN["keypoint_valid"] > 0)


def test_keypoints_are_torchvisions():
    keypoints, scores = decode(nhwc("heatmaps"), GOLDEN["paste.boxes"])
    np.testing.assert_allclose(keypoints, GOLDEN["heatmap_keypoints"], atol=1e-4)
    np.testing.assert_allclose(scores, GOLDEN["heatmap_scores"], atol=1e-5)


def test_which_cell_a_joint_falls_into():
    """A RoI from (10, 20) to (38, 132) with 4 cells an axis: cells of 7 x 28 pixels."""
    roi = np.array([[10, 20, 38, 132]], np.float32)
    joints = [
        (10, 20, 2, 0),
        (16.9, 20, 1, 0),
        (17, 47.9, 2, 1),
        (30, 48, 2, 4 + 2),
        (38, 20, 2, 3),  # the right edge
        (10, 132, 2, 12),  # the lower edge
        (38, 132, 2, 15),
        (38.1, 50, 2, None),
        (9.9, 50, 2, None),
        (20, 19, 2, None),
        (20, 140, 2, None),
        (20, 60, 0, None),  # unlabelled
    ]
    found, valid = cells(np.array([[joint[:3] for joint in joints]], np.float32), roi, 4)
    assert valid[0].tolist() == [joint[3] is not None for joint in joints]
    assert found[0].tolist() == [joint[3] or 0 for joint in joints]


def test_no_joint_lies_in_a_roi_without_area():
    """What padding looks like; a joint on its edge must not become a cell that is not there."""
    found, valid = cells(np.full((1, 1, 3), 2, np.float32), np.zeros((1, 4), np.float32), 56)
    assert not valid.any() and (found == 0).all()


def slow_keypoints(heatmaps, boxes):
    """Each map resized as a whole, then searched."""
    keypoints, scores = np.ones((*heatmaps.shape[::3], 3)), np.zeros(heatmaps.shape[::3])
    for r, (x1, y1, x2, y2) in enumerate(boxes):
        width, height = max(x2 - x1, 1), max(y2 - y1, 1)
        columns, rows = int(np.ceil(width)), int(np.ceil(height))
        large = slow_bicubic(slow_bicubic(heatmaps[r], rows).swapaxes(0, 1), columns).swapaxes(0, 1)
        for k in range(heatmaps.shape[3]):
            y, x = np.unravel_index(large[..., k].argmax(), (rows, columns))
            keypoints[r, k, :2] = x1 + (x + 0.5) * width / columns, y1 + (y + 0.5) * height / rows
            scores[r, k] = large[y, x, k]
    return keypoints, scores


def slow_bicubic(lines, extent):
    """Along the first axis, four taps each, the ends repeated."""
    out = np.zeros((extent, *lines.shape[1:]))
    for i in range(extent):
        position = (i + 0.5) * len(lines) / extent - 0.5
        for tap in range(int(np.floor(position)) - 1, int(np.floor(position)) + 3):
            d = abs(position - tap)
            near, far = (1.25 * d - 2.25) * d * d + 1, ((-0.75 * d + 3.75) * d - 6) * d + 3
            out[i] += (near if d <= 1 else far) * lines[min(max(tap, 0), len(lines) - 1)]
    return out


BOXES = np.array(
    [
        [3, 4, 67, 68],  # one whole tile
        [3, 4, 67.01, 67.99],  # a pixel more, a pixel less
        [-5, 10, 15.5, 205.3],
        [100.7, 20.1, 330, 55],
        [5, 6, 5.3, 200],
        [7, 8, 7, 8],  # counts as one pixel
        [0, 0, 250, 210],
        [50, 50, 51, 51],
    ],
    np.float32,
)


@pytest.mark.parametrize("chunk", [3, 32])
def test_keypoints_are_those_of_slow_loops(chunk, monkeypatch):
    monkeypatch.setattr(ops, "CHUNK", chunk)
    maps = np.random.default_rng(0).normal(size=(len(BOXES), 14, 14, 3)).astype(np.float32)
    keypoints, scores = jax.jit(lambda *arguments: heatmap_keypoints(*arguments))(maps, BOXES)
    expected, expected_scores = slow_keypoints(maps, BOXES)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
    np.testing.assert_allclose(keypoints, expected, atol=1e-3)


def test_a_batch_of_images_is_each_alone():
    maps = np.random.default_rng(1).normal(size=(2, 4, 8, 8, 2)).astype(np.float32)
    boxes = np.stack([BOXES[:4], BOXES[4:]])
    together = jax.jit(jax.vmap(heatmap_keypoints))(maps, boxes)
    for i in range(2):
        for whole, part in zip(together, decode(maps[i], boxes[i])):
            np.testing.assert_allclose(whole[i], part, atol=1e-5)


def test_of_equals_the_first_is_taken():
    maps = np.zeros((1, 8, 8, 2), np.float32)
    maps[0, 2, 5, 0] = maps[0, 6, 1, 0] = maps[0, 2, 1, 0] = 1
    boxes = np.array([[0, 0, 8, 8]], np.float32)
    keypoints, scores = decode(maps, boxes)
    np.testing.assert_array_equal(keypoints[0], [[1.5, 2.5, 1], [0.5, 0.5, 1]])
    assert scores.tolist() == [[1, 0]]
    flat, _ = decode(np.zeros((1, 8, 8, 2), np.float32), np.array([[0, 0, 200, 150]], np.float32))
    np.testing.assert_array_equal(flat[0, :, :2], 0.5)  # over several tiles


def test_a_joint_comes_back_from_its_cell():
    """Within half a cell, for any box."""
    rng = np.random.default_rng(2)
    boxes = np.concatenate([rng.uniform(0, 50, (6, 2)), rng.uniform(80, 300, (6, 2))], 1).astype(np.float32)
    share = rng.uniform(0.02, 0.98, (6, 5, 2))
    points = boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])
    found, valid = cells(np.concatenate([points, np.full((6, 5, 1), 2)], -1).astype(np.float32), boxes, 28)
    assert valid.all()
    maps = jax.nn.one_hot(found, 28 * 28).reshape(6, 5, 28, 28)
    keypoints, _ = decode(jnp.moveaxis(maps, 1, -1), boxes)
    error = abs(np.array(keypoints[..., :2]) - points)
    assert (error <= 0.5 * (boxes[:, None, 2:] - boxes[:, None, :2]) / 28 + 1).all()


def test_the_kernel_is_that_of_resize():
    maps = np.random.default_rng(3).normal(size=(1, 56, 56, 4)).astype(np.float32)
    _, scores = decode(maps, np.array([[0, 0, 131, 90]], np.float32))
    np.testing.assert_allclose(scores, resize(maps, (90, 131), "bicubic").max((1, 2)), atol=1e-5)
