"""How the fields of an example move together under a mirroring, a turn, a resize and a window.

Each function returns a new dict and never writes into the arrays it was given. Boxes, proposals and keypoints share one
continuous frame in which pixel i covers [i, i + 1]: a mirrored x is W - x, as in torchvision. Joints with visibility 0
are unlabelled and are written as (0, 0, 0), as COCO does. Captions, where an example has boxes, are those of the boxes,
one each.
"""

import cv2
import numpy as np

IGNORED = 255  # in semantic maps
MEAN_COLOUR = (124, 116, 104)  # ImageNet's: what a widened picture shows beyond its edge, as torchvision's recipes do
PICTURES = ("image", "semantic", "semantic_labels")  # (H, W, ...)
OBJECT_FIELDS = ("boxes", "classes", "crowd", "difficult", "area", "masks", "keypoints", "annotation_ids", "captions")


def tight_boxes(masks: np.ndarray) -> np.ndarray:
    """(N, 4) float32 boxes around masks (N, H, W); zeros where a mask is empty."""
    masks = np.asarray(masks) > 0
    columns, rows = masks.any(axis=1), masks.any(axis=2)
    x1, y1 = columns.argmax(axis=1), rows.argmax(axis=1)
    x2 = columns.shape[1] - columns[:, ::-1].argmax(axis=1)
    y2 = rows.shape[1] - rows[:, ::-1].argmax(axis=1)
    return np.stack([x1, y1, x2, y2], axis=1).astype(np.float32) * columns.any(axis=1)[:, None]


def pieces(semantic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(boxes (N,4) float32, classes (N,) int32) of the connected parts, of eight neighbours, of each class of a map (H,W) but 0."""
    boxes, classes = [], []
    for label in np.setdiff1d(semantic, (0, IGNORED)):
        _, _, stats, _ = cv2.connectedComponentsWithStats((semantic == label).astype(np.uint8), connectivity=8)
        boxes += [(x, y, x + width, y + height) for x, y, width, height, _ in stats[1:]]
        classes += [label] * (len(stats) - 1)
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int32)


def _mapped(example, maps):
    """A new example with each function of `maps` applied to the field of its name, where there is one."""
    return {name: maps[name](value) if name in maps else value for name, value in example.items()}


def _joints(move):
    """Moves (N, K, 3) keypoints by `move(xy)` and writes the unlabelled ones as zeros."""

    def moved(keypoints):
        keypoints = np.concatenate([move(keypoints[..., :2]), keypoints[..., 2:]], axis=-1)
        return (keypoints * (keypoints[..., 2:] > 0)).astype(np.float32)

    return moved


def mirror(example, flip_pairs=()):
    """Left becomes right; `flip_pairs` are the joints that change places."""
    width = np.float32(example["image"].shape[1])

    def boxes(b):
        return np.stack([width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]], axis=1)

    def keypoints(k):
        order = np.arange(k.shape[1])
        for left, right in flip_pairs:
            order[[left, right]] = right, left
        return _joints(lambda xy: np.stack([width - xy[..., 0], xy[..., 1]], axis=-1))(k[:, order])

    def mirrored(array):
        return np.ascontiguousarray(array[:, ::-1])

    return _mapped(
        example,
        {
            **dict.fromkeys(PICTURES, mirrored),
            "boxes": boxes,
            "proposals": boxes,
            "masks": lambda masks: np.ascontiguousarray(masks[..., ::-1]),
            "keypoints": keypoints,
        },
    )


def turn(example):
    """A quarter turn counter-clockwise, as np.rot90: the point (x, y) comes to (y, W - x)."""
    width = np.float32(example["image"].shape[1])

    def turned(axes):
        return lambda array: np.ascontiguousarray(np.rot90(array, axes=axes))

    def boxes(b):
        return np.stack([b[:, 1], width - b[:, 2], b[:, 3], width - b[:, 0]], axis=1)

    return _mapped(
        example,
        {
            **dict.fromkeys(PICTURES, turned((0, 1))),
            "boxes": boxes,
            "proposals": boxes,
            "masks": turned((1, 2)),
            "keypoints": _joints(lambda xy: np.stack([xy[..., 1], width - xy[..., 0]], axis=-1)),
        },
    )


def fit(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a picture of `size` scaled to fit the canvas: floor(size * min of the two ratios), at least 1.

    In whole numbers: floor(h * (H / h)) in floats is H - 1 for some sizes.
    """
    (height, width), (canvas_height, canvas_width) = map(int, size), map(int, canvas)
    if canvas_height * width <= canvas_width * height:
        return canvas_height, max(1, width * canvas_height // height)
    return max(1, height * canvas_width // width), canvas_width


def resize(example, height, width, interpolation=cv2.INTER_LINEAR):
    """To height x width pixels; `area` grows with them. An image of that size already stays bit for bit."""
    old_height, old_width = example["image"].shape[:2]
    if (height, width) == (old_height, old_width):
        return dict(example)
    ratio = np.array([width / old_width, height / old_height], np.float32)
    # Nearest by pixel centres, so that masks stay on the picture; torchvision's are up to half a pixel off.
    rows = ((np.arange(height) + 0.5) * old_height / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * old_width / width).astype(np.int64)

    def nearest(array):
        return array[rows][:, columns]

    def boxes(b):
        return b * np.tile(ratio, 2)

    return _mapped(
        example,
        {
            **dict.fromkeys(PICTURES, nearest),
            "image": lambda image: cv2.resize(image, (width, height), interpolation=interpolation),
            "boxes": boxes,
            "proposals": boxes,
            "masks": lambda masks: masks[:, rows][:, :, columns],
            "keypoints": _joints(lambda xy: xy * ratio),
            "area": lambda area: area * ratio.prod(),
        },
    )


def random_window(example, height, width, rng):
    """A window of the given size at a random place: inside the picture, or around it where it is the larger."""
    top, left = (
        rng.integers(min(0, old - new), max(0, old - new), endpoint=True)
        for old, new in zip(example["image"].shape[:2], (height, width))
    )
    old_height, old_width = example["image"].shape[:2]
    y1, x1, y2, x2 = max(top, 0), max(left, 0), min(top + height, old_height), min(left + width, old_width)
    return pad(cut(example, y1, x1, y2, x2), max(-top, 0), max(-left, 0), height, width, MEAN_COLOUR)


def cut(example, y1, x1, y2, x2):
    """The window [y1, y2) x [x1, x2), which lies inside the picture; see `transforms.Crop` for the objects."""
    offset = np.array([x1, y1], np.float32)
    limit = np.array([x2 - x1, y2 - y1], np.float32)

    def shifted(b):
        return b - np.tile(offset, 2)

    def clipped(b):
        return np.clip(shifted(b), 0, np.tile(limit, 2))

    def proposals(b):
        return clipped(b)[is_visible(clipped(b))]

    def keypoints(k):
        inside = ((k[..., :2] >= offset) & (k[..., :2] <= offset + limit)).all(axis=-1, keepdims=True)
        return _joints(lambda xy: xy - offset)(k * inside)

    new = _mapped(
        example,
        {
            **dict.fromkeys(PICTURES, lambda array: array[y1:y2, x1:x2]),
            "boxes": clipped,
            "proposals": proposals,
            "masks": lambda masks: masks[:, y1:y2, x1:x2],
            "keypoints": keypoints,
        },
    )
    if "boxes" not in example:
        return new
    whole = (new["boxes"] == shifted(example["boxes"])).all(axis=1)
    if "masks" in example:
        left, before = (e["masks"].sum(axis=(1, 2), dtype=np.int64) for e in (new, example))
        kept = left > 0
        new["boxes"] = np.where(whole[:, None], new["boxes"], tight_boxes(new["masks"]))
    else:
        left, before = _box_area(new["boxes"]), _box_area(example["boxes"])
        kept = whole | is_visible(new["boxes"])
    if "area" in example:
        share = np.where(whole, 1, left / np.maximum(before, np.finfo(np.float32).tiny))
        new["area"] = (example["area"] * share).astype(np.float32)
    return select(new, kept)


def _box_area(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def is_visible(boxes):
    """(N,) which boxes are a pixel or more wide and high."""
    return (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)


def select(example, kept):
    """The objects that are `kept`, an index or a mask."""

    def rows(values):
        return values[kept] if isinstance(values, np.ndarray) else [v for v, keep in zip(values, kept) if keep]

    return _mapped(example, dict.fromkeys(OBJECT_FIELDS, rows))


def pad(example, top, left, height, width, colour):
    """Lays the picture at (top, left) on a ground of height x width pixels."""
    old_height, old_width = example["image"].shape[:2]
    if (old_height, old_width) == (height, width):
        return example
    rows, columns = slice(top, top + old_height), slice(left, left + old_width)
    offset = np.array([left, top], np.float32)

    def laid(fill):
        def lay(array):
            ground = np.empty((height, width, *array.shape[2:]), array.dtype)
            ground[...] = fill
            ground[rows, columns] = array
            return ground

        return lay

    def masks(array):
        ground = np.zeros((len(array), height, width), array.dtype)
        ground[:, rows, columns] = array
        return ground

    def boxes(b):
        return b + np.tile(offset, 2)

    return _mapped(
        example,
        {
            "image": laid(colour),
            "boxes": boxes,
            "proposals": boxes,
            "masks": masks,
            "semantic": laid(IGNORED),
            "semantic_labels": laid(False),
            "keypoints": _joints(lambda xy: xy + offset),
        },
    )
