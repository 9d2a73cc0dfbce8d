"""Maps of evidence laid over their image."""

import cv2
import numpy as np

from jaxvision.visualize.layout import as_uint8, enlarge, enlargement


def draw_heatmap(image, heat, strength: float = 0.5) -> np.ndarray:
    """The image (H, W, 3) under a map (h, w) whose grid covers it, blue at 0 or below, red at its maximum; RGB uint8.

    A shorter side below 384 pixels is enlarged by a whole factor first.
    """
    image, heat = as_uint8(image), np.asarray(heat, np.float32)
    picture = enlarge(image, enlargement(image.shape))
    heat = cv2.resize(heat, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    levels = np.rint(255 * np.clip(heat / max(heat.max(), 1e-12), 0, 1)).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_JET)[..., ::-1]
    return np.rint((1 - strength) * picture + strength * colours).astype(np.uint8)
