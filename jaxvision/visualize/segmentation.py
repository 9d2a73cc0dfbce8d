"""Pictures of segmentations: the overlay beside the map of classes, with a legend."""

import numpy as np

from jaxvision.data.geometry import IGNORED
from jaxvision.visualize.layout import as_uint8, draw_text, enlarge, enlargement, text_height, text_size
from jaxvision.visualize.palette import palette

GREY = (160, 160, 160)


def draw_segmentation(image, classes, class_names) -> np.ndarray:
    """The image under its classes, then the classes alone, then a legend of those present; (H', W', 3) uint8 RGB.

    image: (H, W, 3) uint8 or float 0..1; classes: (H, W) whole numbers. Ignored pixels, 255, are left as they are in
    the overlay and grey in the map. A shorter side below 384 pixels is enlarged by a whole factor.
    Raises ValueError for another shape and for classes that have no name.
    """
    image, classes = as_uint8(image), np.asarray(classes)
    if classes.shape != image.shape[:2]:
        raise ValueError(f"classes have shape {classes.shape}, the image {image.shape}")
    present = [int(c) for c in np.unique(classes)]
    nameless = [c for c in present if c != IGNORED and not 0 <= c < len(class_names)]
    if nameless:
        raise ValueError(f"classes {nameless} have no name among {len(class_names)}")
    colours = np.empty((256, 3), np.uint8)
    colours[: len(class_names)] = palette(len(class_names))[:256]
    colours[IGNORED] = GREY
    class_map = colours[classes]
    overlay = np.where((classes == IGNORED)[..., None], image, (image * 0.5 + class_map * 0.5).astype(np.uint8))
    factor = enlargement(image.shape)
    picture = np.concatenate([enlarge(overlay, factor), enlarge(class_map, factor)], axis=1)
    names = {c: "ignored" if c == IGNORED else str(class_names[c]) for c in present}
    return np.concatenate([picture, _legend(picture.shape, names, colours)])


def _legend(shape, names, colours):
    """Names on their colours, in as many lines as the width of the picture needs."""
    height = text_height((shape[0], shape[1] // 2))
    x, y, places = height // 2, height // 2, []
    for c, name in names.items():
        width = text_size(name, height)[1]
        if x > height // 2 and x + width > shape[1]:
            x, y = height // 2, y + height * 3 // 2
        places.append((x, y, c, name))
        x += width + height // 2
    legend = np.full((y + height * 3 // 2, shape[1], 3), 255, np.uint8)
    for x, y, c, name in places:
        draw_text(legend, name, (x, y), height, colours[c])
    return legend
