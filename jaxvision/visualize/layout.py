"""What every picture is made of: enlargement, text on a ground, pictures side by side."""

import cv2
import numpy as np

SMALLEST = 384  # pixels: the shorter side that text stays legible on
FONT = cv2.FONT_HERSHEY_SIMPLEX


def as_uint8(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 from uint8 or float 0..1. Raises ValueError for another shape."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an image (H, W, 3), got {image.shape}")
    return image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def enlargement(size) -> int:
    """The whole factor that brings the shorter side of (height, width) to 384 pixels or more."""
    return -(-SMALLEST // max(1, min(size[:2])))


def enlarge(array: np.ndarray, factor: int) -> np.ndarray:
    """Repeats the pixels of (H, W) or (H, W, 3): nothing moves by a fraction of a pixel."""
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def text_height(size) -> int:
    """Pixels of a line of text on a picture of this (height, width)."""
    return max(18, round(min(size[:2]) / 28))


def text_size(text: str, height: int) -> tuple[int, int]:
    """(height, width) in pixels of the text on its ground."""
    (width, _), _ = cv2.getTextSize(text, FONT, _scale(height), _thickness(height))
    return height, width + height // 2


def draw_text(picture: np.ndarray, text: str, corner, height: int, ground) -> None:
    """Writes on a ground of colour, black or white whichever reads better, moved as needed to lie inside the picture.

    `corner` is x, y of the top left, `height` that of the ground in pixels. Draws into `picture`.
    """
    ground = tuple(int(c) for c in ground)
    height, width = text_size(text, height)
    x = max(0, min(round(corner[0]), picture.shape[1] - width))
    y = max(0, min(round(corner[1]), picture.shape[0] - height))
    picture[y : y + height, x : x + width] = ground
    ink = (0, 0, 0) if np.dot(ground, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)
    base = (x + height // 4, y + round(height * 0.75))
    cv2.putText(picture, text, base, FONT, _scale(height), ink, _thickness(height), cv2.LINE_AA)


def side_by_side(pictures, titles) -> np.ndarray:
    """Pictures in a row, a title above each, on white; all are brought to the height of the highest.

    Enlarged by a whole factor where one fits, else bilinearly. Raises ValueError where their numbers differ.
    """
    if len(pictures) != len(titles) or not len(pictures):
        raise ValueError(f"{len(pictures)} pictures with {len(titles)} titles; give one title for each")
    height = max(picture.shape[0] for picture in pictures)
    columns = []
    for picture, title in zip(map(as_uint8, pictures), titles):
        if picture.shape[0] != height:
            size = (round(picture.shape[1] * height / picture.shape[0]), height)
            whole = height % picture.shape[0] == 0
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST if whole else cv2.INTER_LINEAR)
        line = text_height(picture.shape)
        width = max(picture.shape[1], text_size(title, line)[1])
        column = np.full((height + 2 * line, width, 3), 255, np.uint8)
        column[2 * line :, : picture.shape[1]] = picture
        draw_text(column, title, (0, line // 2), line, (255, 255, 255))
        columns.append(column)
    top = max(column.shape[0] for column in columns)
    gap = np.full((top, max(8, top // 60), 3), 255, np.uint8)
    row = []
    for column in columns:
        above = np.full((top - column.shape[0], column.shape[1], 3), 255, np.uint8)
        row += [gap, np.concatenate([above, column])]
    return np.concatenate(row[1:], axis=1)


def _scale(height):
    return height / 34  # FONT is about 22 pixels high at scale 1


def _thickness(height):
    return max(1, round(height / 16))
