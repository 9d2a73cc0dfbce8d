import cv2
import numpy as np
import pytest
from devkits import png, voc_palette

from jaxvision.data.images import ImageError
from jaxvision.data.index_maps import index_map_size, read_index_map


def saved(path, data):
    path.write_bytes(data)
    return path


def values_of(depth, size=(13, 19)):
    values = np.random.default_rng(depth).integers(0, 2**depth, size)
    values[0, 0], values[0, 1] = 0, 2**depth - 1
    return values


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_indices_of_a_palette(tmp_path, depth, interlaced):
    values, palette = values_of(depth), voc_palette()[: 2**depth]
    data = png(values, depth, palette, interlaced)
    # The file is a right one: OpenCV sees the palette's colours.
    colours = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(colours[..., ::-1], palette[values])
    read = read_index_map(saved(tmp_path / "a.png", data))
    np.testing.assert_array_equal(read, values)
    assert read.dtype == np.int32 and index_map_size(tmp_path / "a.png") == (13, 19)


def test_indices_of_one_colour_stay_apart(tmp_path):
    values = values_of(8)
    read = read_index_map(saved(tmp_path / "a.png", png(values, palette=np.zeros((256, 3)))))
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_values_are_those_that_are_stored(tmp_path, depth):
    values = values_of(depth)
    np.testing.assert_array_equal(read_index_map(saved(tmp_path / "a.png", png(values, depth))), values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_opencv_writes(tmp_path, dtype):
    values = values_of(8 * np.dtype(dtype).itemsize).astype(dtype)
    path = saved(tmp_path / "a.png", cv2.imencode(".png", values)[1].tobytes())
    np.testing.assert_array_equal(read_index_map(path), values)


def damaged(data):
    place = data.index(b"IDAT") + 6
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    "data, message",
    [
        (png(np.zeros((4, 5, 3), int)), "a picture in colour, not a class map"),
        (cv2.imencode(".png", np.zeros((4, 5, 4), np.uint8))[1].tobytes(), "a picture in colour"),
        (cv2.imencode(".jpg", np.zeros((4, 5), np.uint8))[1].tobytes(), "not a PNG"),
        (png(values_of(8))[:-12], "cut off"),
        (png(values_of(8))[:60], "cut off"),
        (png(values_of(8))[:20], "not a PNG"),
        (b"", "not a PNG"),
        (damaged(png(values_of(8))), "damaged"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, data, message):
    with pytest.raises(ImageError, match=rf"mask_7\.png: .*{message}"):
        read_index_map(saved(tmp_path / "mask_7.png", data))


def test_a_missing_file_is_named(tmp_path):
    for read in (read_index_map, index_map_size):
        with pytest.raises(ImageError, match=r"mask_7\.png: cannot be read"):
            read(tmp_path / "mask_7.png")
