"""Pictures whose pixels are taken from other places, objects with them by their masks."""

import cv2
import numpy as np

from jaxvision.data.geometry import IGNORED, MEAN_COLOUR, tight_boxes


def resample(example, x, y):
    """A new example whose pixels show what was at columns x, rows y (H, W), 0 the centre of the first pixel.

    The image is read bilinearly, masks, semantic map and labels by the nearest pixel. From beyond the picture come the
    mean colour, semantic 255 and no object. Where there are masks boxes become theirs and areas change with them; objects of
    which nothing is left stay, for the caller to drop. Boxes without masks and joints are left as they are.
    """
    height, width = example["image"].shape[:2]
    columns, rows = np.floor(x + 0.5).astype(int), np.floor(y + 0.5).astype(int)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)

    new, maps = dict(example), (np.float32(x), np.float32(y))
    new["image"] = cv2.remap(example["image"], *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    new["image"][~inside] = MEAN_COLOUR
    if "semantic" in example:
        semantic = example["semantic"]
        new["semantic"] = np.where(inside, semantic[rows, columns], semantic.dtype.type(IGNORED))
    if "semantic_labels" in example:
        new["semantic_labels"] = example["semantic_labels"][rows, columns] & inside[..., None]
    if "masks" in example:
        new["masks"] = example["masks"][:, rows, columns] * inside
        new["boxes"] = tight_boxes(new["masks"])
        if "area" in example:
            left, before = (masks.sum(axis=(1, 2), dtype=np.int64) for masks in (new["masks"], example["masks"]))
            new["area"] = (example["area"] * left / np.maximum(before, 1)).astype(np.float32)
    return new
