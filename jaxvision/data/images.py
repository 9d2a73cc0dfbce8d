"""Reading and writing pictures: always (H, W, 3) uint8 RGB in memory, whatever the file holds."""

import re
import struct
from pathlib import Path

import cv2
import numpy as np

# A JPEG marker: 0xFF and a byte that is neither stuffing (00), a restart (D0-D7) nor fill (FF).
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the markers behind which a JPEG's size is
_PNG_END = b"IEND\xaeB`\x82"


class ImageError(ValueError):
    """A picture that cannot be read or written; the message names the file."""


def read_image(path) -> np.ndarray:
    """Reads a picture as (H, W, 3) uint8 RGB.

    Grey is repeated over the three channels, alpha is dropped (colours under it stay as stored), 16 bits keep their
    high byte, and the EXIF orientation is applied, so the array stands as a viewer shows the picture.

    Raises ImageError, which names the file, if it is missing, not a picture, or cut off: a JPEG without its end marker
    or a PNG without its last chunk, which OpenCV would fill up with grey or black without a word. Also for floats, and
    for 16 bits of which only the lowest 12 are used: by the high byte such a picture would be all but black.
    """
    data = read_bytes(path)
    if data.startswith(b"\xff\xd8") and not _jpeg_is_complete(data):
        raise ImageError(f"{path}: the JPEG is cut off, its end marker is missing ({len(data)} bytes); fetch it again")
    if data.startswith(b"\x89PNG") and _PNG_END not in data:
        raise ImageError(f"{path}: the PNG is cut off, its IEND chunk is missing ({len(data)} bytes); fetch it again")
    image = decode(path, data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image.dtype == np.uint16:
        if 0 < image.max() < 4096:
            raise ImageError(
                f"{path}: of its 16 bits the values use the lowest {int(image.max()).bit_length()} alone, so what is "
                "white is not known; scale them to 0..65535 or save 8 bits"
            )
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ImageError(f"{path}: its values are {image.dtype}; save 8 or 16 bits")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_bytes(path) -> bytes:
    """The content of a file. Raises ImageError, which names it."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error


def decode(path, data: bytes, flags: int) -> np.ndarray:
    """What OpenCV makes of a file's content. Raises ImageError, which names the file, where it can make nothing."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise ImageError(f"{path}: cannot be decoded ({error.err})") from error
    if image is None:
        raise ImageError(f"{path}: not a picture that OpenCV can decode ({len(data)} bytes)")
    return image


def encoded_size(path, data: bytes) -> tuple[int, int]:
    """(height, width) of a picture's content as it is stored, no EXIF orientation applied; of a JPEG or PNG only the header
    is read. Raises ImageError, which names the file."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    if data.startswith(b"\xff\xd8"):
        for marker, place in _jpeg_segments(data):
            if marker in _FRAME_HEADERS and len(data) >= place + 7:
                return struct.unpack_from(">HH", data, place + 3)
    return decode(path, data, cv2.IMREAD_UNCHANGED).shape[:2]


def write_image(path, rgb: np.ndarray) -> None:
    """Writes (H, W, 3) uint8 RGB in the format that the file's suffix names; PNG keeps every bit.

    Raises ImageError for another shape or dtype and for an unknown suffix.
    """
    rgb = np.asarray(rgb)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise ImageError(f"{path}: expected (H, W, 3) uint8 RGB to write, got {rgb.shape} {rgb.dtype}")
    try:
        _, data = cv2.imencode(Path(path).suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise ImageError(f"{path}: OpenCV knows no picture format of that suffix; use .png or .jpg") from error
    Path(path).write_bytes(data.tobytes())


def _jpeg_is_complete(data: bytes) -> bool:
    """Whether there is an end marker; a search of the bytes alone would find that of an embedded thumbnail."""
    return any(marker == 0xD9 for marker, _ in _jpeg_segments(data))


def _jpeg_segments(data: bytes):
    """The markers of a JPEG up to its end, and where what follows each begins."""
    position = 2
    while match := _JPEG_MARKER.search(data, position):
        marker, place = data[match.end() - 1], match.end()
        yield marker, place
        if marker == 0xD9:
            return
        position = place + int.from_bytes(data[place : place + 2], "big")
