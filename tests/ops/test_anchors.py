import numpy as np
from golden import GOLDEN

from jaxvision.ops import anchors


def test_pyramid_is_torchvisions():
    levels = anchors.pyramid_anchors([(32,), (64,)], (0.5, 1.0, 2.0), [(8, 12), (4, 6)], [8, 16])
    np.testing.assert_array_equal(np.concatenate(levels), GOLDEN["anchors"])
    assert [len(a) for a in levels] == [8 * 12 * 3, 4 * 6 * 3]
    assert all(a.dtype == np.float32 for a in levels)


def test_base_is_ratio_major_and_rounds_half_to_even():
    base = anchors.base_anchors((32, 5), (0.5, 1))
    np.testing.assert_array_equal(base[0], [-23, -11, 23, 11])
    np.testing.assert_array_equal(base[3], [-2, -2, 2, 2])  # 2.5 is between 2 and 3: to the even one


def test_grid_goes_by_rows_with_all_of_a_cell_together():
    base = anchors.base_anchors((4, 8), (1,))
    grid = anchors.grid_anchors(base, 2, 3, (10, 7))
    expected = [b + np.array([x, y, x, y]) for y in (0, 10) for x in (0, 7, 14) for b in base]
    np.testing.assert_array_equal(grid, expected)
