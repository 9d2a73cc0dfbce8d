import numpy as np
import pytest

from jaxvision.data.affine import Affine, matrix, move
from jaxvision.data.geometry import IGNORED, MEAN_COLOUR, tight_boxes, turn

SQUARE = 8


def example(height=SQUARE, width=SQUARE, masks=True):
    """Two rectangles, a joint at the centre of a pixel of each, and one that is unlabelled."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    shapes = np.zeros((2, height, width), np.uint8)
    shapes[0, 1:3, 1:4] = shapes[1, 5:8, 4:6] = 1
    found = {
        "image": image,
        "boxes": tight_boxes(shapes),
        "classes": np.array([1, 2], np.int32),
        "area": np.array([12, 6], np.float32),  # finer than the mask, the first
        "keypoints": np.array([[[1.5, 2.5, 2], [0, 0, 0]], [[4.5, 7.5, 1], [5.5, 5.5, 2]]], np.float32),
        "semantic": (shapes[0] + 2 * shapes[1]).astype(np.int32),
    }
    return found | {"masks": shapes} if masks else found


class Draws:
    """A generator whose two draws are given: rotation, shear and the shifts in -1..1, and the zoom."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def uniform(self, *_):
        return self.draws.pop(0)


def test_a_quarter_of_a_circle_is_a_quarter_turn():
    found, wanted = Affine(rotation=90)(example(), Draws(np.array([1.0, 0, 0, 0]), 1.0)), turn(example())
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-5, err_msg=name)


def test_a_shift_by_hand():
    moved = Affine(shift=0.5)(example(), Draws(np.array([0, 0, 0.5, -0.25]), 1.0))  # two to the right, one up
    before = example()
    np.testing.assert_array_equal(moved["image"][:7, 2:], before["image"][1:, :6])
    assert (moved["image"][7] == MEAN_COLOUR).all() and (moved["image"][:, :2] == MEAN_COLOUR).all()
    np.testing.assert_array_equal(moved["semantic"][:7, 2:], before["semantic"][1:, :6])
    assert (moved["semantic"][7] == IGNORED).all() and (moved["semantic"][:, :2] == IGNORED).all()
    np.testing.assert_array_equal(moved["boxes"], before["boxes"] + [2, -1, 2, -1])
    assert moved["area"].tolist() == [12, 6]
    np.testing.assert_allclose(moved["keypoints"][0], [[3.5, 1.5, 2], [0, 0, 0]])


def test_what_leaves_the_picture_is_cut_and_dropped():
    away = Affine(shift=1.0)(
        example(), Draws(np.array([0, 0, 0.375, 0.375]), 1.0)
    )  # by three pixels: 7..9 x 8..11 is gone
    assert (
        away["classes"].tolist() == [1] and away["boxes"].tolist() == [[4, 4, 7, 6]] and away["area"].tolist() == [12]
    )
    half = Affine(shift=1.0)(example(), Draws(np.array([0, 0, 0.375, 0]), 1.0))
    assert half["boxes"].tolist() == [[4, 1, 7, 3], [7, 5, 8, 8]] and half["area"].tolist() == [12, 3]
    np.testing.assert_allclose(half["keypoints"][1], [[7.5, 7.5, 1], [0, 0, 0]])  # 8.5 lies outside


def test_a_zoom_by_hand():
    half = Affine(zoom=(0.5, 0.5))(example(), Draws(np.zeros(4), 0.5))
    before = example()
    assert (half["semantic"][:2] == IGNORED).all() and (half["semantic"][:, 6:] == IGNORED).all()
    # What is shown at the centre of pixel 2 lies at the corner of the pixels 0 and 1, the nearest of which is the later.
    np.testing.assert_array_equal(half["semantic"][2:6, 2:6], before["semantic"][1::2, 1::2])
    mean = before["image"].astype(float).reshape(4, 2, 4, 2, 3).mean((1, 3))
    assert np.abs(half["image"][2:6, 2:6] - mean).max() <= 1
    np.testing.assert_allclose(half["keypoints"][1], [[4.25, 5.75, 1], [4.75, 4.75, 2]])
    double = Affine(zoom=(2, 2))(example(masks=False), Draws(np.zeros(4), 2.0))
    # 1..4 x 1..3 comes to -2..4 x -2..2, and 4..6 x 5..8 to 4..8 x 6..12.
    assert double["boxes"].tolist() == [[0, 0, 4, 2], [4, 6, 8, 8]]
    assert double["area"].tolist() == [4 * 12 / 3, 4 * 6 / 3]
    assert Affine(zoom=(0.25, 0.25))(example(masks=False), Draws(np.zeros(4), 0.25))["classes"].tolist() == []


def test_a_shear_slants_the_vertical_lines():
    sheared = Affine(shear=45)(example(masks=False), Draws(np.array([0, 1.0, 0, 0]), 1.0))
    before = example()
    for row in range(8):  # the line at y moves by y - 4, the pixels of a row by half a pixel less or more
        step = row - 4
        x = np.arange(max(0, 1 + step), min(8, 8 + step))
        shown = (before["image"][row, x - step].astype(float) + before["image"][row, x - step - 1]) / 2
        assert np.abs(sheared["image"][row, x] - shown).max() <= 1
    # (1, 1), (4, 1), (1, 3), (4, 3) come to x - 3, x - 3, x - 1, x - 1.
    np.testing.assert_allclose(sheared["boxes"][0], [0, 1, 3, 3])
    np.testing.assert_allclose(sheared["keypoints"][0], [[0, 2.5, 2], [0, 0, 0]], atol=1e-6)


def test_boxes_without_masks_and_proposals_surround_their_corners():
    found = example(16, 16, masks=False) | {"proposals": np.array([[6, 6, 10, 10], [0, 0, 1, 1]], np.float32)}
    found["boxes"] = np.array([[6, 7, 10, 9], [6, 6, 7, 7]], np.float32)
    turned = Affine(rotation=45)(found, Draws(np.array([1.0, 0, 0, 0]), 1.0))
    reach = 3 / np.sqrt(2)  # of (2, 1), the farthest along the diagonals
    np.testing.assert_allclose(turned["boxes"][0], [8 - reach, 8 - reach, 8 + reach, 8 + reach], rtol=1e-6)
    np.testing.assert_allclose(turned["proposals"], [[8 - 2 * 2**0.5, 8 - 2 * 2**0.5, 8 + 2 * 2**0.5, 8 + 2 * 2**0.5]])
    assert turned["boxes"].dtype == turned["proposals"].dtype == np.float32


def test_joints_follow_their_pixels_and_boxes_their_masks():
    rng, found = np.random.default_rng(0), example(40, 56)
    y, x = np.mgrid[:40, :56]
    found["image"] = np.stack([4 * x, 4 * y, 0 * x], -1).astype(np.uint8)  # the place is the colour
    found["masks"][:, 14:26, 20:36] = 1
    found["keypoints"] = np.array([[[28.5, 20.5, 2], [31.5, 14.5, 2]]] * 2, np.float32)
    for _ in range(20):
        moved = Affine(rotation=30, shift=0.1, zoom=(0.8, 1.25), shear=15)(found, rng)
        np.testing.assert_array_equal(moved["boxes"], tight_boxes(moved["masks"]))
        assert len(moved["boxes"]) == 2
        for joint, old in zip(moved["keypoints"][0], found["keypoints"][0]):
            column, row = np.floor(joint[:2]).astype(int)
            assert np.abs(moved["image"][row, column, :2] / 4 + 0.5 - old[:2]).max() < 1.5


def test_the_order_of_the_parts():
    """First scaled, then slanted, then turned: (0, 1) by 2, by 45 degrees, and a quarter."""
    np.testing.assert_allclose(matrix(90, 45, 2) @ [0, 1], [2, -2], atol=1e-12)
    still = move(example(), matrix(0, 0, 1), np.zeros(2))
    np.testing.assert_array_equal(still["image"], example()["image"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": 200}, "affine: rotation is 200, expected 0..180"),
        ({"shift": -0.1}, "affine: shift is -0.1, expected 0..1"),
        ({"shear": 90}, "affine: shear is 90"),
        ({"zoom": (0, 1)}, r"affine: zoom is \(0, 1\)"),
        ({"zoom": (2, 1)}, "0 < low <= high"),
    ],
)
def test_what_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        Affine(**options)
