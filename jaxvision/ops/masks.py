"""Instance masks: to the grid of a RoI for training, and from a box back into the picture."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.ops.interpolation import cell_samples, sampling_matrix


def mask_targets(
    masks: Array,
    mask_boxes: Array,
    rois: Array,
    matches: Array,
    size: int,
    sampling_ratio: int = 2,
    aligned: bool = True,
    max_sampling: int | None = None,
) -> Array:
    """The matched instances' masks on the RoIs' grids: (R, size, size) float32 in 0..1.

    masks (N, Mh, Mw) 0/1 cover the frames mask_boxes (N, 4) in pixels; rois (R, 4); matches (R,) is the row of each
    RoI's instance, and a negative one gives zeros. A cell is the mean of sampling_ratio² samples over its area, each
    bilinear among the mask's pixel centres and 0 outside the frame. A degenerate frame gives zeros.

    With aligned=False, sampling_ratio=-1 and frames that are the whole canvas this is torchvision's
    `roi_align(mask, size, 1.0, -1, aligned=False)`, half a pixel off: the targets its published weights were trained
    on. The adaptive number of samples is at most `max_sampling` (default: enough for a RoI as large as the mask's
    grid).
    """
    matches_or_first = jnp.maximum(matches, 0)
    frames = mask_boxes[matches_or_first]
    matrices = []
    for axis, extent in enumerate(masks.shape[1:]):
        low, high = 1 - axis, 3 - axis
        length = rois[:, high] - rois[:, low]
        length = length if aligned else jnp.maximum(length, 1)
        bound = max_sampling or -(-extent // size)
        positions, weights = cell_samples(rois[:, low], length, size, sampling_ratio, bound)
        frame = frames[:, high] - frames[:, low]
        usable = (frame > 0) & (matches >= 0)
        zoom = extent / jnp.where(usable, frame, 1)
        positions = (positions - frames[:, low, None, None]) * zoom[:, None, None] - 0.5 * aligned
        weights = jnp.where(usable[:, None, None], weights, 0)
        matrices.append(sampling_matrix(positions, weights, extent, border=0.5 if aligned else 1))
    rows, columns = matrices
    matched = masks[matches_or_first].astype(jnp.float32)
    partial = jnp.einsum("ryx,rwx->ryw", matched, columns, precision="highest")
    return jnp.einsum("rhy,ryw->rhw", rows, partial, precision="highest")


def paste_masks(
    masks: np.ndarray, boxes: np.ndarray, height: int, width: int, method: str = "torchvision"
) -> np.ndarray:
    """Masks (N, m, m) over boxes (N, 4), drawn into pictures: (N, height, width) float32, soft. Numpy, on the host.

    "torchvision" is its rule to the letter: one cell of zeros around the mask, the box grown to match, its corners
    truncated to whole pixels, x2 included, and a bilinear resize to that many pixels. "aligned" samples the mask at
    each pixel's centre, and is 0 at centres outside the box: more exact, and the inverse of `mask_targets`. Either is
    cut to the picture.

    Raises ValueError for another method.
    """
    if method not in ("torchvision", "aligned"):
        raise ValueError(f'method is {method!r}; "torchvision" and "aligned" exist')
    masks, boxes = np.asarray(masks, np.float32), np.asarray(boxes, np.float32)
    if method == "torchvision":
        grown = masks.shape[-1] + 2
        centres, halves = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        halves = halves * np.float32(grown / masks.shape[-1])
        boxes = np.concatenate([np.trunc(centres - halves), np.trunc(centres + halves) + 1], 1)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        masks = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    pictures = np.zeros((len(masks), height, width), np.float32)
    for picture, mask, (x1, y1, x2, y2) in zip(pictures, masks, boxes):
        rows, y = _pixels(y1, y2, height, len(mask))
        columns, x = _pixels(x1, x2, width, len(mask))
        picture[rows, columns] = _interpolate(_interpolate(mask, y).T, x).T
    return pictures


def _pixels(low: np.float32, high: np.float32, extent: int, cells: int) -> tuple[slice, np.ndarray]:
    """The pixels of a line whose centres lie in [low, high], and where these are among the mask's cells."""
    first = int(np.clip(np.ceil(low - 0.5), 0, extent))
    last = int(np.clip(np.floor(high - 0.5) + 1, first, extent))
    centres = np.arange(first, last, dtype=np.float32) + np.float32(0.5)
    span = max(high - low, np.finfo(np.float32).tiny)
    return slice(first, last), (centres - low) * np.float32(cells / span) - np.float32(0.5)


def _interpolate(lines: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rows between the rows of `lines`. By taps: BLAS threads cost more than they save on matrices this small."""
    positions = positions.clip(0, len(lines) - 1)[:, None]
    lower = np.floor(positions)
    first = lower[:, 0].astype(int)
    second = np.minimum(first + 1, len(lines) - 1)
    return lines[first] + (lines[second] - lines[first]) * (positions - lower)
