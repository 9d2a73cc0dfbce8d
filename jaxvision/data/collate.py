"""From examples to a batch: instances padded to `max_boxes`, masks cut to their boxes."""

from collections.abc import Sequence

import numpy as np

from jaxvision.batch import FIELDS, HOST
from jaxvision.data.geometry import is_visible

FLAT = 1e-3  # pixels of the canvas: a side that is no longer is none


def frame_mask(mask: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """A full mask (H,W) read at the cell centres of a size x size grid over box, 0 outside the image: (size,size) uint8."""
    height, width = mask.shape
    centres = (np.arange(size) + 0.5) / size
    x = np.floor(box[0] + centres * (box[2] - box[0])).astype(int)
    y = np.floor(box[1] + centres * (box[3] - box[1])).astype(int)
    inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None]
    return (mask[y.clip(0, height - 1)[:, None], x.clip(0, width - 1)] * inside).astype(np.uint8)


def row(
    example: dict, fields: Sequence[str], max_boxes: int, mask_size: int = 112, max_proposals: int = 0
) -> dict[str, np.ndarray]:
    """One row of a batch from an example on its canvas: the named fields, padded, and those of the host.

    Crowd and difficult instances stay in the row with `valid` False, after the others, and so do those of no width or
    height, which are counted in `lost_boxes`; what exceeds `max_boxes` is left out and counted in `overflow`. Proposals of
    which less than a pixel is left are counted in `lost_proposals`. Raises KeyError for a field that the example does not
    have.
    """
    out = {name: np.asarray(example[name]) for name in ("image", "image_size")}
    out |= {"real": np.bool_(True), "image_id": np.int64(example["image_id"]), "overflow": np.int32(0)}
    out |= {"original_size": example["original_size"], "skipped": np.int32(example.get("skipped", 0))}
    out["lost_boxes"] = out["lost_proposals"] = np.int32(0)
    if "boxes" in fields:
        count = len(example["boxes"])
        aside = example.get("crowd", np.zeros(count, bool)) | example.get("difficult", np.zeros(count, bool))
        flat = ~aside & (example["boxes"][:, 2:] - example["boxes"][:, :2] <= FLAT).any(1)
        aside, out["lost_boxes"] = aside | flat, np.int32(flat.sum())
        kept = np.argsort(aside, kind="stable")[:max_boxes]
        out["overflow"] = np.int32(np.sum(~aside) - np.sum(~aside[kept]))
        rows = {"valid": ~aside[kept], "mask_boxes": example["boxes"][kept]}
        if "masks" in fields:
            frames = [frame_mask(example["masks"][i], example["boxes"][i], mask_size) for i in kept]
            rows["masks"] = np.stack(frames) if frames else np.zeros((0, mask_size, mask_size), np.uint8)
        for name in fields:
            if FIELDS[name].shape[:1] == ("N",):
                value = rows[name] if name in rows else np.asarray(example[name])[kept]
                padded = np.zeros((max_boxes, *value.shape[1:]), FIELDS[name].dtype)
                padded[: len(value)] = value
                out[name] = padded
    if "proposals" in fields:
        out |= regions(example["proposals"], max_proposals)
    for name in fields:
        if name not in out:
            out[name] = np.asarray(example[name], FIELDS[name].dtype)
    return out


def regions(proposals: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """`proposals` (count,4), of (n,4) the first that are a pixel or more wide and high, `proposals_valid`, and
    `lost_proposals`, how many are not."""
    large = is_visible(proposals)
    kept = proposals[large][:count]
    padded = np.zeros((count, 4), np.float32)
    padded[: len(kept)] = kept
    return {
        "proposals": padded,
        "proposals_valid": np.arange(count) < len(kept),
        "lost_proposals": np.int32((~large).sum()),
    }


def stack(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Rows to a batch with a leading B."""
    dtypes = {name: field.dtype for name, field in {**FIELDS, **HOST}.items()}
    return {
        name: np.stack([r[name] for r in rows]).astype(
            rows[0][name].dtype if name == "image" else dtypes[name], copy=False
        )
        for name in rows[0]
    }
