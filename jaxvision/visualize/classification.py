"""Pictures of classifications: the names with their scores on the image."""

import numpy as np

from jaxvision.visualize.layout import as_uint8, draw_text, enlarge, enlargement, text_height


def draw_classification(image, names_scores) -> np.ndarray:
    """Writes (name, score) pairs at the top left, one a line, as many as fit; returns (H', W', 3) uint8 RGB.

    image: (H, W, 3) uint8 or float 0..1; a shorter side below 384 pixels is enlarged by a whole factor first.
    """
    image = as_uint8(image)
    picture = enlarge(image, enlargement(image.shape))
    height = text_height(picture.shape)
    for n, (name, score) in enumerate(names_scores):
        if (n + 1) * height <= picture.shape[0]:
            draw_text(picture, f"{name} {score:.2f}", (0, n * height), height, (0, 0, 0))
    return picture
