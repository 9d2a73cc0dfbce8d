import numpy as np
from golden import GOLDEN

from jaxvision.ops.default_boxes import default_boxes, linear_scales

RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)


def test_ssd300_has_torchvisions_boxes():
    shapes = [(side, side) for side in (38, 19, 10, 5, 3, 1)]
    boxes = default_boxes(shapes, (300, 300), SCALES, RATIOS, (8, 16, 32, 64, 100, 300))
    assert boxes.shape == (8732, 4) and boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, GOLDEN["ssd_default_boxes"], atol=1e-4)  # of 300 pixels


def test_cells_without_steps_share_the_canvas():
    boxes = default_boxes([(1, 2), (1, 1)], (40, 80), (0.25, 1.0, 1.0), ((4,), ()))
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(centres, [[20, 20]] * 4 + [[60, 20]] * 4 + [[40, 20]] * 2)
    cell = [[20, 10], [40, 20], [40, 5], [10, 20]]  # squares of the canvas's own form, then wide, then tall
    np.testing.assert_allclose(sides, cell * 2 + [[80, 40]] * 2)


def test_scales_of_ssdlite():
    np.testing.assert_allclose(linear_scales(0.2, 0.95, 6), [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1])


def test_sides_may_be_longer_than_the_canvas_as_published():
    boxes = default_boxes([(1, 1)], (100, 100), (0.9, 1.05), ((2,),), clip=False)
    sides = boxes[:, 2:] - boxes[:, :2]
    root = np.sqrt(2)
    wanted = [[90, 90], [100 * np.sqrt(0.9 * 1.05)] * 2, [90 * root, 90 / root], [90 / root, 90 * root]]
    np.testing.assert_allclose(sides, wanted, rtol=1e-6)
    clipped = default_boxes([(1, 1)], (100, 100), (0.9, 1.05), ((2,),))
    np.testing.assert_allclose(clipped[:, 2:] - clipped[:, :2], np.minimum(wanted, 100), rtol=1e-6)
