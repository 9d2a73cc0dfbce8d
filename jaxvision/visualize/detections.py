"""Pictures of detections: boxes, names, scores, masks, joints."""

import cv2
import numpy as np

from jaxvision.visualize.layout import as_uint8, draw_text, enlarge, enlargement, text_height
from jaxvision.visualize.palette import palette


def draw_detections(image, result, class_names, threshold: float = 0.5, keypoint_edges=None) -> np.ndarray:
    """Draws a detector's result, or an example's ground truth, over its image; returns (H', W', 3) uint8 RGB.

    image: (H, W, 3) uint8 or float 0..1. A shorter side below 384 pixels is enlarged by a whole factor first.
    result: `boxes` (n, 4) and `classes` (n,), in pixels of the image, and as far as given `scores` (n,), of which those
    from `threshold` on are drawn, `masks` (n, H, W) of 0 and 1 or bool, and `keypoints` (n, K, 3), drawn where their
    third value is above 0.
    keypoint_edges: pairs of joints to connect.

    Each class has a colour; objects are drawn worst first, so that the best lies on top.
    """
    image = as_uint8(image)
    factor = enlargement(image.shape)
    picture = enlarge(image, factor)
    colours = palette(max(len(class_names), 2))
    line = max(1, round(min(picture.shape[:2]) / 250))
    rows = range(len(result["boxes"]))
    if "scores" in result:
        rows = [n for n in np.argsort(result["scores"], kind="stable") if result["scores"][n] >= threshold]
    for n in rows:
        if "masks" in result:
            _draw_mask(
                picture, enlarge(np.asarray(result["masks"][n]) > 0, factor), colours[result["classes"][n]], line
            )
    for n in rows:
        colour = tuple(int(c) for c in colours[result["classes"][n]])
        # The right edge of a box is where its last pixel ends.
        x1, y1, x2, y2 = np.rint(np.asarray(result["boxes"][n], np.float64) * factor).astype(int).tolist()
        cv2.rectangle(picture, (x1, y1), (max(x1, x2 - 1), max(y1, y2 - 1)), colour, line)
        if "keypoints" in result:
            draw_joints(picture, np.asarray(result["keypoints"][n]), factor, keypoint_edges or (), colour, line)
    height = text_height(picture.shape)
    for n in rows:  # names last: no later box may cross them out
        label = str(class_names[result["classes"][n]])
        if "scores" in result:
            label += f" {result['scores'][n]:.2f}"
        x1, y1 = np.rint(np.asarray(result["boxes"][n][:2], np.float64) * factor).tolist()
        draw_text(picture, label, (x1, y1 - height if y1 >= height else y1), height, colours[result["classes"][n]])
    return picture


def _draw_mask(picture, mask, colour, line):
    picture[mask] = (picture[mask] * 0.5 + colour * 0.5).astype(np.uint8)
    edge = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((2 * line + 1,) * 2, np.uint8)).astype(bool)
    picture[edge] = colour


def draw_joints(picture, joints, factor, edges, colour, line):
    """Draws joints (K, 3) and the lines of `edges` between them into a picture enlarged by `factor`."""
    points = np.rint(joints[:, :2] * factor - 0.5).astype(int).tolist()  # OpenCV counts from the first pixel's centre
    for a, b in edges:
        if joints[a, 2] > 0 and joints[b, 2] > 0:
            cv2.line(picture, points[a], points[b], colour, line + 1, cv2.LINE_AA)
    for point, (_, _, visible) in zip(points, joints):
        if visible > 0:
            cv2.circle(picture, point, 2 * line + 1, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
            cv2.circle(picture, point, 2 * line, colour, cv2.FILLED, cv2.LINE_AA)
