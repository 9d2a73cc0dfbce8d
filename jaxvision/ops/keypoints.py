"""Joints and heat-maps over RoIs (He et al., "Mask R-CNN", ICCV 2017, section 5), by torchvision's rules."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxvision.ops.interpolation import cubic

TILE = 64  # pixels a side that `heatmap_keypoints` looks at in one go ...
CHUNK = 32  # ... and how many such tiles at once: some 25 MB with 17 joints
NOWHERE = np.iinfo(np.int32).max  # comes after every pixel


def keypoint_cells(keypoints: Array, rois: Array, size: int) -> tuple[Array, Array]:
    """The cell of each joint in its RoI's size x size heat-map: (cells (R, K) int32, row * size + column; valid (R, K)).

    keypoints (R, K, 3): x, y in pixels and visibility; rois (R, 4). A joint on the right or lower edge belongs to the last
    cell. Not valid are joints outside the RoI and those of visibility 0; their cell is 0.
    """
    sides = rois[:, None, 2:] - rois[:, None, :2]
    points = keypoints[..., :2]
    cells = jnp.floor((points - rois[:, None, :2]) * (size / jnp.where(sides > 0, sides, 1)))
    cells = jnp.where(points == rois[:, None, 2:], size - 1, cells)
    valid = jnp.all((cells >= 0) & (cells < size), -1) & (keypoints[..., 2] > 0)
    x, y = jnp.moveaxis(cells, -1, 0)
    return jnp.where(valid, y * size + x, 0).astype(jnp.int32), valid


def heatmap_keypoints(heatmaps: Array, boxes: Array) -> tuple[Array, Array]:
    """Where each heat-map is highest: (keypoints (R, K, 3), scores (R, K)) from heatmaps (R, s, s, K) over boxes (R, 4).

    A map is resized to the whole pixels of its box, bicubically (a = -0.75); x, y are the centre of the highest pixel, the
    first of equals, brought back to the box's own size; the third column is 1; the score is the value there. A box counts
    as at least a pixel high and wide.

    The boxes are cut into tiles, and a loop takes a fixed number of tiles at once: exact for boxes of any size, in
    time that grows with their area and memory that does not. Not differentiable in reverse mode.
    """
    count, side, _, joints = heatmaps.shape
    extents = jnp.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    whole = jnp.ceil(extents).astype(jnp.int32)
    width, height = whole.T
    across, down = (-(-whole // TILE)).T
    ends = jnp.cumsum(across * down)
    # Beyond its ends a map goes on with its end value: with that in the map, a row of weights is the kernel itself.
    padded = jnp.pad(heatmaps.astype(jnp.float32), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    padded = padded.swapaxes(2, 3)  # R, y, K, x: both products below find their axes in place

    def weights(pixels, extent):
        positions = side / extent.astype(jnp.float32) * (pixels + 0.5) - 0.5
        return cubic(positions[..., None] - np.arange(-2, side + 2, dtype=np.float32), -0.75)

    def look(step, best):
        scores, places = best
        number = step * CHUNK + jnp.arange(CHUNK)
        row = jnp.minimum(jnp.searchsorted(ends, number, side="right"), count - 1)
        tile = number - (ends - across * down)[row]
        w, h = width[row, None], height[row, None]
        y = tile[:, None] // across[row, None] * TILE + jnp.arange(TILE)
        x = tile[:, None] % across[row, None] * TILE + jnp.arange(TILE)
        values = jnp.einsum("cykx,cwx->cykw", padded[row], weights(x, w), precision="highest")
        values = jnp.einsum("chy,cykw->chkw", weights(y, h), values, precision="highest")
        inside = ((number < ends[-1])[:, None] & (y < h))[:, :, None] & (x < w)[:, None]
        values = jnp.where(inside[:, :, None], values, -jnp.inf)
        highest = values.max((1, 3))
        place = (y * w)[:, :, None, None] + x[:, None, None]
        place = jnp.where(values == highest[:, None, :, None], place, NOWHERE).min((1, 3))
        top = scores.at[row].max(highest)
        places = jnp.where(top > scores, NOWHERE, places)
        return top, places.at[row].min(jnp.where(highest == top[row], place, NOWHERE))

    start = jnp.full((count, joints), -jnp.inf), jnp.full((count, joints), NOWHERE)
    scores, places = lax.fori_loop(0, -(-ends[-1] // CHUNK), look, start)
    points = jnp.stack([places % width[:, None], places // width[:, None]], -1) + 0.5
    points = points * (extents / whole)[:, None] + boxes[:, None, :2]
    return jnp.concatenate([points, jnp.ones((count, joints, 1))], -1), scores
