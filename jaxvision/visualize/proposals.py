"""Pictures of region proposals."""

import cv2
import numpy as np

from jaxvision.data.overlaps import iou
from jaxvision.visualize.layout import as_uint8, enlarge, enlargement

FOUND, MISSED, OTHERS = (60, 220, 60), (235, 50, 50), (225, 225, 225)


def draw_proposals(image, proposals, boxes=None, overlap: float = 0.5, most: int = 100) -> np.ndarray:
    """The first `most` proposals (n,4) in thin light lines over their image (H,W,3); returns (H',W',3) uint8 RGB.

    boxes: (m,4) of the objects. Each is drawn in green together with the proposal, of all n, that covers it best, or in red
    where none has an IoU of `overlap` with it. Small pictures are enlarged as by `draw_detections`.
    """
    image = as_uint8(image)
    factor = enlargement(image.shape)
    picture = enlarge(image, factor)
    line = max(1, round(min(picture.shape[:2]) / 250))
    for box in proposals[:most]:
        _rectangle(picture, box * factor, OTHERS, 1)
    if boxes is None or not len(boxes):
        return picture
    overlaps = iou(np.asarray(boxes), np.asarray(proposals)) if len(proposals) else np.zeros((len(boxes), 1))
    for box, row in zip(boxes, overlaps):
        if row.max() >= overlap:
            _rectangle(picture, proposals[row.argmax()] * factor, FOUND, line)
        _rectangle(picture, box * factor, FOUND if row.max() >= overlap else MISSED, 2 * line)
    return picture


def _rectangle(picture, box, colour, line):
    x1, y1, x2, y2 = np.rint(np.asarray(box, np.float64)).astype(int).tolist()
    cv2.rectangle(picture, (x1, y1), (max(x1, x2 - 1), max(y1, y2 - 1)), colour, line)
