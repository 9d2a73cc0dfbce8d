import numpy as np
import pytest

from jaxvision.visualize.confusion import CELL, EMPTY, FULL, draw_confusion

NAMES = ("sky", "cat", "dog")


def corner(picture):
    """x, y at which the cells begin, their lines among them."""
    return picture.shape[1] - 20 - 3 * CELL, picture.shape[0] - 20 - 3 * CELL


def test_rows_are_the_truth_and_cells_their_shares():
    picture = draw_confusion([[8, 2, 0], [0, 5, 0], [0, 0, 0]], NAMES)
    x, y = corner(picture)
    colours = picture[y + 3 : y + 3 * CELL : CELL, x + 3 : x + 3 * CELL : CELL]  # above the numbers
    assert colours[0, 2].tolist() == colours[1, 0].tolist() == [255] * 3
    assert colours[1, 1].tolist() == FULL.tolist()
    assert (colours[2] == EMPTY).all()
    for share, colour in ((0.8, colours[0, 0]), (0.2, colours[0, 1])):
        np.testing.assert_allclose(colour, 255 - share * (255 - FULL), atol=1)


def test_numbers_stand_where_something_was_predicted():
    matrix = np.array([[8, 2, 0], [0, 5, 0], [0, 0, 0]])
    blank, drawn = draw_confusion(matrix * 0, NAMES), draw_confusion(matrix, NAMES)
    assert blank.shape == drawn.shape
    left, top = corner(drawn)
    np.testing.assert_array_equal(drawn[:top], blank[:top])  # names do not depend on the counts
    for i, j in np.ndindex(3, 3):
        cell = drawn[top + i * CELL + 1 : top + (i + 1) * CELL, left + j * CELL + 1 : left + (j + 1) * CELL]
        assert (len(np.unique(cell.reshape(-1, 3), axis=0)) > 1) == (matrix[i, j] > 0)


def test_names_stand_on_their_colours_on_both_sides():
    picture = draw_confusion(np.eye(3), NAMES)
    left, top = corner(picture)
    red, green = ((picture == colour).all(-1) for colour in ((128, 0, 0), (0, 128, 0)))
    for colour, place in ((red, 1), (green, 2)):
        ys, xs = np.nonzero(colour[:, :left])
        assert top + place * CELL < ys.min() < ys.max() < top + (place + 1) * CELL
        ys, xs = np.nonzero(colour[:top])
        assert left + place * CELL < xs.min() < xs.max() < left + (place + 1) * CELL
        assert np.ptp(ys) > np.ptp(xs)  # upright


def test_what_is_no_confusion_matrix():
    with pytest.raises(ValueError, match=r"expected counts \(3, 3\) for 3 names, got \(2, 2\)"):
        draw_confusion(np.eye(2), NAMES)
    with pytest.raises(ValueError, match="of them 1 below 0 or not a number"):
        draw_confusion([[1, -1], [0, 0]], NAMES[:2])


def test_a_hundred_classes_have_smaller_cells_and_no_numbers():
    matrix = np.eye(100) * 7
    picture = draw_confusion(matrix, [f"class {n}" for n in range(100)])
    assert max(picture.shape) < 3300
    cells = picture[-20 - 3000 : -20, -20 - 3000 : -20].reshape(100, 30, 100, 30, 3)
    for n in (0, 57, 99):
        assert (cells[n, 1:, n, 1:] == FULL).all() and (cells[n, 1:, n - 1, 1:] == 255).all()
