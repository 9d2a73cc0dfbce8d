"""Class maps in PNG files: a number for every pixel, read as it is stored, also where the file has a palette."""

import struct
import zlib

import cv2
import numpy as np

from jaxvision.data.images import ImageError, decode, read_bytes

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3  # PNG's colour types of one number a pixel


def read_index_map(path) -> np.ndarray:
    """(H, W) int32: the numbers that a PNG stores for its pixels, a palette's indices or grey values of 1 to 16 bits.

    OpenCV looks indices up and gives colours, from which they cannot be had back where two entries are of one colour. But
    indices are stored just as grey values are, filters and interlacing included: so the file is decoded under a header
    that says grey, without its palette. Values of fewer than 8 bits, which decoding spreads over 0..255, are taken back.

    Raises ImageError, which names the file, if it is missing, cut off, damaged, not a PNG, or a picture in colour.
    """
    data = read_bytes(path)
    _, _, depth, colour, *rest = header = _header(path, data)
    if colour not in (_GREY, _PALETTE):
        raise ImageError(
            f"{path}: a picture in colour, not a class map, which has one number for a pixel; save the numbers as a "
            "PNG with a palette or in grey"
        )
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", *header[:3], _GREY, *rest)
    grey = [_SIGNATURE, struct.pack(">I", 13), ihdr, struct.pack(">I", zlib.crc32(ihdr))]
    grey += [chunk for chunk in _chunks(path, data) if chunk[4:8] in (b"IDAT", b"IEND")]
    values = decode(path, b"".join(grey), cv2.IMREAD_UNCHANGED)
    return values.astype(np.int32) // (255 // (2**depth - 1) if depth < 8 else 1)


def index_map_size(path) -> tuple[int, int]:
    """(height, width) of a PNG, of which only the header is read."""
    try:
        with open(path, "rb") as file:
            width, height, *_ = _header(path, file.read(29))
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
    return height, width


def _header(path, data: bytes) -> tuple[int, ...]:
    """Width, height, bits of a value, colour type, compression, filter and interlacing."""
    if not data.startswith(_SIGNATURE) or len(data) < 29:
        raise ImageError(f"{path}: not a PNG ({len(data)} bytes), which a class map must be: it keeps numbers exactly")
    return struct.unpack_from(">IIBBBBB", data, 16)


def _chunks(path, data: bytes):
    """The chunks of a PNG: length, name, content, check sum."""
    position = len(_SIGNATURE)
    while True:
        length = int.from_bytes(data[position : position + 4], "big")
        chunk = data[position : position + length + 12]
        if len(chunk) < length + 12:
            raise ImageError(f"{path}: the PNG is cut off ({len(data)} bytes); fetch it again")
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise ImageError(f"{path}: the PNG is damaged, a check sum does not hold; fetch it again")
        yield chunk
        if chunk[4:8] == b"IEND":
            return
        position += len(chunk)
