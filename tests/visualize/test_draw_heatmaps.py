import cv2
import numpy as np
import pytest

from jaxvision.visualize.heatmaps import GAP, draw_heatmap, draw_maps, draw_signal

GREY = np.full((64, 96, 3), 128, np.uint8)


def test_the_hot_cell_lies_where_it_is():
    heat = np.zeros((4, 6), np.float32)
    heat[1, 4] = 3.0
    picture = draw_heatmap(GREY, heat, strength=1.0)
    assert picture.shape == (384, 576, 3) and picture.dtype == np.uint8
    red = picture[..., 0].astype(int) - picture[..., 2]  # from blue, -128, to red, 128
    y, x = np.nonzero(red == red.max())
    assert abs(y.mean() - (1.5 * 96 - 0.5)) < 1 and abs(x.mean() - (4.5 * 96 - 0.5)) < 1  # the cell's centre
    assert (red[:, :280] < -100).all()  # cells that touch it are blended with it, no others
    np.testing.assert_array_equal(draw_heatmap(GREY, -heat, 1.0), draw_heatmap(GREY, 0 * heat, 1.0))
    np.testing.assert_array_equal(draw_heatmap(GREY, heat * 7), draw_heatmap(GREY, heat))
    np.testing.assert_array_equal(draw_heatmap(GREY, heat, strength=0.0), np.full((384, 576, 3), 128))


def test_a_heat_map_of_another_shape_or_not_finite():
    for heat in (np.zeros((2, 2, 1)), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match=r"a heat-map is \(h, w\) and finite"):
            draw_heatmap(GREY, heat)


def test_a_signal_is_grey_where_there_is_none():
    signal = np.zeros((400, 400, 3))
    signal[10, 20], signal[30, 40] = (2, 0, -1), (-2, 0, 0)
    picture = draw_signal(signal)
    assert picture[10, 20].tolist() == [255, 128, 64] and picture[30, 40].tolist() == [0, 128, 128]
    assert (picture[50:] == 128).all() and (draw_signal(0 * signal) == 128).all()


def test_maps_are_laid_in_rows_each_in_its_own_colours():
    maps = np.zeros((48, 60, 5), np.float32)
    for k in range(5):
        maps[k, 10, k] = 10.0**-k
    grid = draw_maps(maps)
    assert grid.shape == (2 * (48 + GAP), 3 * (60 + GAP), 3)
    hottest = cv2.applyColorMap(np.full((1, 1), 255, np.uint8), cv2.COLORMAP_JET)[0, 0, ::-1]
    for k in range(5):
        y, x = k // 3 * (48 + GAP), k % 3 * (60 + GAP)
        tile = grid[y : y + 48, x : x + 60]
        found = np.argwhere((tile == hottest).all(-1))
        assert found.tolist() == [[k, 10]]
    assert (grid[48 + GAP :, 2 * (60 + GAP) :] == 255).all()
    assert draw_maps(maps, channels=[4, 1]).shape == (48 + GAP, 2 * (60 + GAP), 3)
    few = draw_maps(maps, count=2)
    np.testing.assert_array_equal(few, draw_maps(maps, channels=[0, 1]))
    assert draw_maps(np.ones((2, 3, 1))).shape == (48 + GAP, 72 + GAP, 3)  # small ones are enlarged
