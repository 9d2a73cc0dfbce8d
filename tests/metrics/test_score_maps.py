"""Maps to another size and to boxes, against OpenCV and a flood fill in plain Python."""

import cv2
import numpy as np
import pytest

from jaxvision.metrics.score_maps import CAM, GRAD_CAM, component_box, resize_map, unit_range


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("size", [(224, 224), (30, 47), (5, 9), (2, 3)])
def test_a_resize_is_opencvs(size, cubic):
    maps = np.random.default_rng(0).normal(size=(5, 9, 3))
    kind = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    np.testing.assert_allclose(
        resize_map(maps, size, cubic=cubic), cv2.resize(maps, size[::-1], interpolation=kind), atol=1e-5
    )
    np.testing.assert_allclose(resize_map(maps[..., 0], size, cubic=cubic), resize_map(maps, size, cubic=cubic)[..., 0])


def test_an_extent_takes_the_images_part_of_the_grid():
    maps = np.random.default_rng(1).normal(size=(8, 8))
    np.testing.assert_array_equal(resize_map(maps, (8, 6), (8, 6)), maps[:, :6])
    # Half a cell on: pixels fall halfway between the cells' centres.
    half = resize_map(maps, (7, 14), (3.5, 7))
    rows = (0.75 * maps[:2, 0] + 0.25 * maps[:2, 1]).tolist()
    assert half[1, 1] == pytest.approx(0.75 * rows[0] + 0.25 * rows[1])
    np.testing.assert_array_equal(resize_map(maps, (8, 8)), maps)


def test_a_linear_ramp_stays_where_it_is():
    """The value of a ramp over the image is its place, at any size: nothing is shifted."""
    cells = (np.arange(16) + 0.5) / 16
    large = resize_map(np.tile(cells, (16, 1)), (128, 128))
    np.testing.assert_allclose(large[:, 4:-4], np.tile((np.arange(128) + 0.5) / 128, (128, 1))[:, 4:-4])


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros((3, 0, 2)), r"shape \(3, 0, 2\)"),
        (np.array([[0, np.nan]]), "NaN"),
    ],
)
def test_maps_without_space_and_without_sense_are_named(maps, message):
    with pytest.raises(ValueError, match=message):
        resize_map(maps, (4, 4))


def flood(mask):
    """Components (lists of (y, x)) of a mask, pixels touching at corners too, in the order of their first pixels."""
    left, components = {tuple(p) for p in np.argwhere(mask).tolist()}, []
    while left:
        start = min(left)
        left.remove(start)
        reached, found = [start], []
        while reached:
            y, x = reached.pop()
            found.append((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            reached += near
        components.append(found)
    return components


def test_a_box_is_around_the_largest_component():
    rng = np.random.default_rng(2)
    several = 0
    for threshold in (CAM, GRAD_CAM, 0.6) * 20:
        evidence = rng.normal(size=(11, 13))
        components = sorted(flood((evidence > threshold * evidence.max()) & (evidence > 0)), key=len)
        if len(components) < 2 or len(components[-1]) == len(components[-2]):
            continue
        several += 1
        rows, columns = np.array(components[-1]).T
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(component_box(evidence, threshold), expected)
    assert several > 10


def test_by_hand():
    evidence = np.full((6, 8), -1.0)
    evidence[1:3, 2:5] = 10
    evidence[4, 7] = 11
    np.testing.assert_array_equal(component_box(evidence), [2, 1, 5, 3])
    evidence[3, 1] = 2.2  # a fifth of the maximum is not above it
    np.testing.assert_array_equal(component_box(evidence, 0.2), [2, 1, 5, 3])
    np.testing.assert_array_equal(component_box(evidence, 0.15), [1, 1, 5, 4])  # it touches at a corner
    np.testing.assert_array_equal(component_box(-evidence - 100), [0, 0, 0, 0])
    np.testing.assert_array_equal(component_box(np.zeros((3, 3))), [0, 0, 0, 0])
    np.testing.assert_array_equal(component_box(np.ones((3, 4))), [0, 0, 4, 3])


def test_unit_range():
    np.testing.assert_allclose(unit_range(np.array([[-2.0, 0], [2, 6]])), [[0, 0.25], [0.5, 1]])
    np.testing.assert_array_equal(unit_range(np.full((2, 2), 7.0)), np.zeros((2, 2)))
