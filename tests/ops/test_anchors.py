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


def test_legacy_anchors_are_the_authors():
    """What their generate_anchors.m prints for 128, 256 and 512 pixels: from the first pixel, which is 1, to the last."""
    printed = [
        [-83, -39, 100, 56],
        [-175, -87, 192, 104],
        [-359, -183, 376, 200],
        [-55, -55, 72, 72],
        [-119, -119, 136, 136],
        [-247, -247, 264, 264],
        [-35, -79, 52, 96],
        [-79, -167, 96, 184],
        [-167, -343, 184, 360],
    ]
    found = anchors.legacy_anchors((128, 256, 512), (0.5, 1, 2))
    np.testing.assert_array_equal(found, np.array(printed) - [1, 1, 0, 0])
    [level] = anchors.pyramid_anchors([(128, 256, 512)], (0.5, 1, 2), [(2, 3)], [(16, 16)], legacy=True)
    np.testing.assert_array_equal(level[9 * 4 : 9 * 5], found + [16, 16, 16, 16])
