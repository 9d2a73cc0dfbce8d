"""Pictures of poses: joints and the skeleton between them."""

import numpy as np

from jaxvision.visualize.detections import draw_joints
from jaxvision.visualize.layout import as_uint8, enlarge, enlargement
from jaxvision.visualize.palette import palette
from jaxvision.visualize.skeletons import SKELETONS


def draw_pose(image, joints) -> np.ndarray:
    """Draws one person's joints (J, 3), x y in pixels of the image and a third value above 0 for those to be drawn.

    The skeleton is that of the number of joints, if one is known. image: (H, W, 3) uint8 or float 0..1; a shorter side below
    384 pixels is enlarged by a whole factor first. Returns (H', W', 3) uint8 RGB.
    """
    image, joints = as_uint8(image), np.asarray(joints)
    factor = enlargement(image.shape)
    picture = enlarge(image, factor)
    colour = tuple(int(c) for c in palette(2)[1])
    draw_joints(
        picture, joints, factor, SKELETONS.get(len(joints), ()), colour, max(1, round(min(picture.shape[:2]) / 250))
    )
    return picture
