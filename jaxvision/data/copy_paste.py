"""Simple copy-paste (Ghiasi et al., CVPR 2021): objects of one picture are laid upon another."""

import dataclasses

import numpy as np

from jaxvision.data.geometry import OBJECT_FIELDS, fit, pad, resize, select, tight_boxes


@dataclasses.dataclass(frozen=True)
class CopyPaste:
    """With the given probability lays a random subset of another picture's objects upon this one.

    The other picture is scaled to fit into this one, its shape kept, and laid at random inside. What is pasted hides what
    lies beneath: masks lose the pixels, boxes become those of what is left, areas shrink, joints are no longer visible,
    and an object of which nothing is left is dropped. The semantic map and overlapping labels take the other's pixels. Crowds
    are not pasted. Masks keep hard edges: the paper finds that blending them changes nothing.
    Raises ValueError where a picture has no masks, and where it has proposals, which were found without what is pasted.
    """

    probability: float = 0.5

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise ValueError(f"copy_paste: probability is {self.probability}, expected 0..1")

    def __call__(self, example, rng, other):
        if "proposals" in example:
            raise ValueError(
                "copy_paste: proposals are those of the picture as it was; leave it out, or data.proposals"
            )
        for each in (example, other):
            if "masks" not in each:
                raise ValueError("copy_paste: objects are cut out by their masks; this source has none, leave it out")
        if rng.random() >= self.probability:
            return dict(example)
        height, width = example["image"].shape[:2]
        chosen = rng.random(len(other["masks"])) < rng.random()  # any number is as likely
        other = select(other, chosen & ~other.get("crowd", np.zeros(len(chosen), bool)))
        new_size = fit(other["image"].shape[:2], (height, width))
        top, left = (int(rng.integers(outer - inner, endpoint=True)) for outer, inner in zip((height, width), new_size))
        other = pad(resize(other, *new_size), top, left, height, width, colour=(0, 0, 0))
        other = select(other, other["masks"].any(axis=(1, 2)))  # one that was scaled to nothing has no pixel to paste
        return _joined(_hidden(example, other["masks"].any(axis=0)), other)


def _hidden(example, above):
    """The example where the pixels of `above` (H,W) show something else."""
    before = example["masks"].sum(axis=(1, 2), dtype=np.int64)
    masks = example["masks"] * ~above
    left = masks.sum(axis=(1, 2), dtype=np.int64)
    boxes = np.where((left < before)[:, None], tight_boxes(masks), example["boxes"])
    new = {**example, "masks": masks, "boxes": boxes}
    if "area" in example:
        new["area"] = (example["area"] * left / np.maximum(before, 1)).astype(np.float32)
    if "keypoints" in example:
        new["keypoints"] = _covered(example["keypoints"], above)
    return select(new, (left > 0) | (before == 0))


def _covered(keypoints, above):
    """Joints on pixels of `above` are labelled but not visible."""
    x, y = (np.floor(keypoints[..., i]).astype(int).clip(0, side - 1) for i, side in enumerate(above.shape[::-1]))
    hidden = above[y, x] & (keypoints[..., 2] == 2)
    return np.concatenate([keypoints[..., :2], np.where(hidden, 1, keypoints[..., 2])[..., None]], -1).astype(
        np.float32
    )


def _joined(example, other):
    """Both pictures' objects, the other's pixels where its masks are."""
    above = other["masks"].any(axis=0)
    new = {**example, "image": np.where(above[..., None], other["image"], example["image"])}
    for name in ("semantic", "semantic_labels"):
        if name in example:
            pasted = above.reshape(above.shape + (1,) * (example[name].ndim - 2))
            new[name] = np.where(pasted, other[name], example[name])
    for name in OBJECT_FIELDS:
        if name in example:
            rows = example[name], other[name]
            new[name] = np.concatenate(rows) if isinstance(example[name], np.ndarray) else [*rows[0], *rows[1]]
    return new
