import cv2
import numpy as np
import pytest

from jaxvision.data.images import ImageError, read_image, write_image

PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
SMOOTH = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (40, 60, 3)).astype(np.uint8), (9, 9), 5)


def stored(path, array):
    """Writes an array as OpenCV orders it: BGR(A) or grey."""
    path.write_bytes(cv2.imencode(path.suffix, array)[1].tobytes())
    return path


def test_png_keeps_every_bit(tmp_path):
    write_image(tmp_path / "a.png", PICTURE)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PICTURE)


def test_red_is_the_first_channel(tmp_path):
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 250
    for name in ("a.png", "a.jpg"):
        write_image(tmp_path / name, red)
        assert np.abs(read_image(tmp_path / name).astype(int) - red).max() < 6


def test_grey_is_repeated_and_alpha_dropped(tmp_path):
    grey = PICTURE[..., 0]
    assert (read_image(stored(tmp_path / "grey.png", grey)) == grey[..., None]).all()
    assert (read_image(stored(tmp_path / "grey.jpg", np.full((9, 9), 77, np.uint8))) == 77).all()
    rgba = np.dstack([PICTURE[..., ::-1], np.full(PICTURE.shape[:2], 9, np.uint8)])
    np.testing.assert_array_equal(read_image(stored(tmp_path / "rgba.png", rgba)), PICTURE)


def test_grey_with_alpha(tmp_path):
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    grey = PICTURE[..., 0]
    rows = b"".join(b"\0" + np.dstack([row, np.full_like(row, 40)]).tobytes() for row in grey)
    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 4, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    assert (read_image(tmp_path / "a.png") == grey[..., None]).all()


def test_sixteen_bits_keep_their_high_byte(tmp_path):
    deep = PICTURE[..., ::-1].astype(np.uint16) * 256 + 200
    np.testing.assert_array_equal(read_image(stored(tmp_path / "a.png", deep)), PICTURE)
    assert (read_image(stored(tmp_path / "g.png", deep[..., 0])) == PICTURE[..., 2:]).all()


@pytest.mark.parametrize("largest, bits", [(1, 1), (255, 8), (1000, 10), (4095, 12)])
def test_sixteen_bits_of_unknown_white_are_named(tmp_path, largest, bits):
    deep = np.linspace(0, largest, 35).reshape(5, 7).astype(np.uint16)
    with pytest.raises(ImageError, match=rf"xray\.png: of its 16 bits the values use the lowest {bits} alone"):
        read_image(stored(tmp_path / "xray.png", deep))
    assert not read_image(stored(tmp_path / "black.png", np.zeros((5, 7), np.uint16))).any()
    assert read_image(stored(tmp_path / "scaled.png", deep * (65535 // largest))).max() >= 248


def test_floats_in_a_file_are_named(tmp_path):
    with pytest.raises(ImageError, match=r"a\.tiff: its values are float32; save 8 or 16 bits"):
        read_image(stored(tmp_path / "a.tiff", PICTURE.astype(np.float32)))


def with_exif(jpeg, orientation, thumbnail=b""):
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0" + b"\0" * 4
    body = b"Exif\0\0" + tiff + thumbnail
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def test_exif_orientation_is_applied(tmp_path):
    write_image(tmp_path / "a.jpg", SMOOTH)
    upright = read_image(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(with_exif((tmp_path / "a.jpg").read_bytes(), 6))  # turn clockwise to show
    np.testing.assert_array_equal(read_image(tmp_path / "b.jpg"), np.rot90(upright, -1))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.1, 0.0])
def test_a_cut_off_file_is_named(tmp_path, suffix, share):
    path = tmp_path / f"whole{suffix}"
    write_image(path, SMOOTH)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=f"whole{suffix}"):
        read_image(path)


def test_the_end_of_a_thumbnail_is_not_the_end(tmp_path):
    write_image(tmp_path / "a.jpg", SMOOTH)
    data = with_exif((tmp_path / "a.jpg").read_bytes(), 1, thumbnail=b"\xff\xd8\xff\xd9")
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_image(tmp_path / "a.jpg").shape == SMOOTH.shape
    (tmp_path / "a.jpg").write_bytes(data[:-40])
    with pytest.raises(ImageError, match="cut off"):
        read_image(tmp_path / "a.jpg")


def test_bytes_after_the_end_and_progressive_files_are_fine(tmp_path):
    write_image(tmp_path / "a.jpg", SMOOTH)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + b"\xff\xda more")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), read_image(tmp_path / "b.jpg"))
    progressive = cv2.imencode(".jpg", SMOOTH, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    (tmp_path / "c.jpg").write_bytes(progressive)
    assert read_image(tmp_path / "c.jpg").shape == SMOOTH.shape
    (tmp_path / "c.jpg").write_bytes(progressive[:-30])
    with pytest.raises(ImageError):
        read_image(tmp_path / "c.jpg")


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    for path in (tmp_path / "a.jpg", tmp_path / "missing.png", tmp_path):
        with pytest.raises(ImageError, match=path.name):
            read_image(path)


def test_writing_refuses(tmp_path):
    with pytest.raises(ImageError, match="float"):
        write_image(tmp_path / "a.png", PICTURE / 255)
    with pytest.raises(ImageError, match=r"a\.nothing"):
        write_image(tmp_path / "a.nothing", PICTURE)
