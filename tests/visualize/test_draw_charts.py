import numpy as np
import pytest

from jaxvision.visualize.curves import FRAME, LINE, SIDE, draw_curves
from jaxvision.visualize.palette import palette
from jaxvision.visualize.shares import BAR, EMPTY, WIDTH, draw_shares

AXES = ("recall", "precision")
NOTHING = (np.zeros(0), np.zeros(0))


def square(picture):
    """x, y of the top left of the frame."""
    frame = (picture == FRAME).all(-1)  # some of the text's edges are of that grey too
    (top, bottom), (left, right) = (np.flatnonzero(frame.sum(axis) > SIDE // 2) for axis in (1, 0))
    assert bottom - top == right - left == SIDE
    return left, top


def test_a_curve_runs_through_its_points():
    blank, drawn = draw_curves([NOTHING], ["cat"], AXES), draw_curves([([0, 0.5, 0.9], [1, 1, 0.25])], ["cat"], AXES)
    left, top = square(blank)
    assert blank.shape == drawn.shape
    red = palette(2)[1]
    for x, y in ((0.1, 1), (0.5, 1), (0.7, 0.625), (0.9, 0.25)):
        assert (drawn[top + round((1 - y) * SIDE), left + round(x * SIDE)] == red).all()
    for x, y in ((0.1, 0.5), (0.95, 0.25), (0.7, 0.7)):
        place = top + round((1 - y) * SIDE), left + round(x * SIDE)
        assert (drawn[place] == blank[place]).all()
    np.testing.assert_array_equal(drawn[: top - 4, : left + SIDE], blank[: top - 4, : left + SIDE])


def test_names_stand_on_the_colours_of_their_curves():
    curves = [([0, 1], [1, 0]), NOTHING, ([0, 1], [0.5, 0.5])]
    picture = draw_curves(curves, ["cat", "no dog", "owl"], AXES)
    legend = picture[:, square(draw_curves([NOTHING] * 3, ["cat", "no dog", "owl"], AXES))[0] + SIDE + LINE :]
    colours = palette(4)[1:]
    found = [np.nonzero((legend == colour).all(-1))[0] for colour in colours]
    assert len(found[0]) > 200 < len(found[2]) and len(found[1]) == 0
    assert found[0].max() + LINE < found[2].min()


def test_many_names_take_more_columns():
    few, many = (draw_curves([([0, 1], [1, 0])] * n, ["a long name"] * n, AXES) for n in (3, 90))
    assert few.shape[0] == many.shape[0] and few.shape[1] + 100 < many.shape[1] < few.shape[1] + 700


def test_what_is_no_curve():
    with pytest.raises(ValueError, match="1 curves with 2 names"):
        draw_curves([NOTHING], ["cat", "dog"], AXES)
    for wrong in ([0, 1.1], [0, np.nan]):
        with pytest.raises(ValueError, match=r"the curve of cat leaves 0\.\.1"):
            draw_curves([(wrong, [0, 0])], ["cat"], AXES)


COLOURS = ((10, 200, 10), (200, 10, 10), (10, 10, 200))
PARTS = ("good", "bad", "ugly")


def test_a_bar_is_cut_as_its_parts():
    picture = draw_shares(
        [[1, 2, 1], [0, 0, 0], [0, 5, 0]], ("cat", "dog", "owl"), PARTS, COLOURS, ("of 4", "", "of 5")
    )
    top, step = 3 * LINE, BAR + 8
    left = np.nonzero((picture[top] == COLOURS[0]).all(-1))[0].min()
    bars = [picture[top + n * step : top + n * step + BAR, left : left + WIDTH] for n in range(3)]
    first = [(bars[0][0] == colour).all(-1).sum() for colour in COLOURS]
    assert first == [WIDTH // 4, WIDTH // 2, WIDTH // 4]
    assert (bars[1] == EMPTY).all() and (bars[2][0] == COLOURS[1]).all()
    for n, bar in enumerate(bars):  # names before them, and something written in each but the empty one
        assert (picture[top + n * step : top + n * step + BAR, :left] < 128).any()
        assert (bar.max(-1) < 9).any() | (bar.min(-1) == 255).any() == (n != 1)


def test_a_legend_names_the_parts():
    picture = draw_shares([[1, 1, 1]], ("cat",), PARTS, COLOURS, ("",))
    legend = picture[LINE : 2 * LINE]
    places = [np.nonzero((legend == colour).all(-1))[1] for colour in COLOURS]
    assert all(len(place) > 100 for place in places)
    assert places[0].max() < places[1].min() < places[1].max() < places[2].min()


def test_what_cannot_be_cut():
    with pytest.raises(ValueError, match=r"a table \(1, 2\) with 1 rows, 1 notes, 3 parts and 3 colours"):
        draw_shares([[1, 1]], ("cat",), PARTS, COLOURS, ("",))
    for wrong in (-1, np.nan):
        with pytest.raises(ValueError, match="1 parts are below 0 or not a number"):
            draw_shares([[1, wrong, 1]], ("cat",), PARTS, COLOURS, ("",))
