import pickle

import cv2
import numpy as np
import pytest
from devkits import pictures, png, voc_palette, write_folder

from jaxvision.data.images import ImageError, write_image
from jaxvision.data.sources import Source, open_source


def opened(root):
    return open_source(f"folder:{root}/images:{root}/masks")


def test_a_folder_reads_as_it_was_written(tmp_path):
    written = write_folder(tmp_path)
    source = pickle.loads(pickle.dumps(opened(tmp_path)))
    assert isinstance(source, Source) and source.class_names == ("sky", "road", "tree", "car")
    assert source.sizes.tolist() == [[48, 64]] * 4
    for i, (picture, values) in enumerate(written):
        example = source[i]
        np.testing.assert_array_equal(example["image"], picture)
        np.testing.assert_array_equal(example["semantic"], values)
        assert example["file"].endswith(f"images/{i}.png") and example["mask_file"].endswith(f"masks/{i}.png")
    for ways in (("folder", "images:masks", str(tmp_path)), (f"folder:{tmp_path}", "images:masks")):
        assert open_source(*ways).images == source.images and open_source(*ways).masks == source.masks


def test_masks_of_any_kind_and_classes_that_are_counted(tmp_path):
    write_folder(tmp_path, names=())
    values = np.array([[0, 9], [255, 3]])
    for n, data in enumerate([png(values, 16), png(values, palette=voc_palette())]):
        write_image(tmp_path / f"images/kind {n}.jpg", np.zeros((2, 2, 3), np.uint8))
        (tmp_path / f"masks/kind {n}.png").write_bytes(data)
    (tmp_path / "images" / "notes.txt").write_text("what else lies there is passed over")
    (tmp_path / "images" / ".hidden.png").write_text("")
    source = opened(tmp_path)
    assert source.class_names == tuple(f"class {k}" for k in range(10)) and len(source) == 6
    for i in (4, 5):
        assert source[i]["semantic"].tolist() == values.tolist()
    assert source.sizes.tolist() == [[48, 64]] * 4 + [[2, 2]] * 2


def test_grey_and_deep_pictures_become_rgb_of_8_bits(tmp_path):
    write_folder(tmp_path, count=3)
    grey = np.arange(48 * 64).reshape(48, 64) % 251
    deep = (np.arange(48 * 64 * 3).reshape(48, 64, 3) * 7 % 65536).astype(np.uint16)
    (tmp_path / "images" / "0.png").write_bytes(png(grey))
    (tmp_path / "images" / "1.png").write_bytes(cv2.imencode(".png", deep[..., ::-1])[1].tobytes())
    (tmp_path / "images" / "2.png").write_bytes(cv2.imencode(".png", deep[..., 0])[1].tobytes())
    source = opened(tmp_path)
    np.testing.assert_array_equal(source[0]["image"], np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(source[1]["image"], deep // 256)
    np.testing.assert_array_equal(source[2]["image"], np.stack([deep[..., 0] // 256] * 3, -1))


@pytest.mark.parametrize("names", ["sky\n\nroad", "sky\nroad\nsky", "", "\n".join(map(str, range(256)))])
def test_names_that_cannot_be_classes(tmp_path, names):
    write_folder(tmp_path)
    (tmp_path / "masks" / "classes.txt").write_text(names)
    with pytest.raises(ValueError, match=r"classes\.txt: expected 1 to 255 different names"):
        opened(tmp_path)


def test_a_list_of_names_as_an_editor_may_leave_it(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "masks" / "classes.txt").write_bytes(b"\xef\xbb\xbfsky\r\n road \r\ntree\r\ncar\r\n\r\n")
    assert opened(tmp_path).class_names == ("sky", "road", "tree", "car")


def test_numbers_that_cannot_be_classes(tmp_path):
    write_folder(tmp_path, names=())
    for n, (_, values) in enumerate(pictures(4)):
        (tmp_path / f"masks/{n}.png").write_bytes(png(np.where(values > 0, 255, 0)))
    with pytest.raises(ValueError, match=r"hold no class but 0, and 255 is ignored; .* must become 1"):
        opened(tmp_path)
    (tmp_path / "masks" / "2.png").write_bytes(png(np.full((48, 64), 300), 16))
    with pytest.raises(ValueError, match=r"2\.png holds 300; classes are 0\.\.254"):
        opened(tmp_path)


def test_what_does_not_fit_together_is_named(tmp_path):
    write_folder(tmp_path, count=9)
    images, masks = tmp_path / "images", tmp_path / "masks"
    for n in range(7):
        (masks / f"{n}.png").rename(masks / f"{n}_mask.png")
    with pytest.raises(
        ValueError, match=r"masks has no file .* for 0\.png, 1\.png, .*4\.png and 2 more in .*images; add"
    ):
        opened(tmp_path)
    for n in range(7):
        (images / f"{n}.png").unlink()
    with pytest.raises(ValueError, match=r"images has no file of the same stem for 0_mask\.png, .* in .*masks"):
        opened(tmp_path)
    for n in range(7):
        (masks / f"{n}_mask.png").unlink()
    assert len(opened(tmp_path)) == 2
    write_image(images / "7.jpg", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"7\.jpg and 7\.png in .*images have one stem"):
        opened(tmp_path)


def write_classes(root, **classes):
    """Pictures 0.png, 1.png, ... and a folder of masks for each class, of its maps."""
    for name, maps in classes.items():
        (root / "masks" / name).mkdir(parents=True)
        for n, values in enumerate(maps):
            (root / "masks" / name / f"{n}.png").write_bytes(png(np.array(values)))
    (root / "images").mkdir()
    for n, values in enumerate(maps):
        write_image(root / "images" / f"{n}.png", np.zeros((*np.shape(values), 3), np.uint8))


def test_a_folder_for_each_class_has_overlapping_labels(tmp_path):
    write_classes(tmp_path, road=[[[0, 1, 1, 0, 1]], [[0]]], car=[[[0, 0, 1, 0, 255]], [[1]]])
    source = pickle.loads(pickle.dumps(opened(tmp_path)))
    assert isinstance(source, Source) and source.overlapping and source.class_names == ("background", "car", "road")
    example = source[0]
    assert example["semantic"].tolist() == [[0, 2, 2, 0, 255]] and example["semantic"].dtype == np.int32
    wanted = [[[1, 0, 0], [0, 0, 1], [0, 1, 1], [1, 0, 0]]]
    assert example["semantic_labels"][:, :4].tolist() == wanted and example["semantic_labels"].dtype == bool
    assert example["file"].endswith("images/0.png") and "masks/" in example["mask_file"]
    assert source[1]["semantic"].tolist() == [[1]] and source.sizes.tolist() == [[1, 5], [1, 1]]
    assert source.annotations(1).keys() == source[1].keys() - {"image"}
    (tmp_path / "masks" / "classes.txt").write_text("nothing\nroad\ncar\n")
    source = opened(tmp_path)
    assert source.class_names == ("nothing", "road", "car") and source[0]["semantic"].tolist() == [[0, 1, 2, 0, 255]]
    assert not hasattr(open_source(f"folder:{tmp_path}/images:{tmp_path}/masks/car"), "overlapping")


def test_what_is_wrong_with_folders_for_each_class_is_named(tmp_path):
    write_classes(tmp_path, road=[[[0, 1]], [[0, 1]]], car=[[[0, 2]], [[1]]])
    source = opened(tmp_path)
    with pytest.raises(ImageError, match=r"masks/car/0\.png holds 2; a mask of one class is 0 and 1"):
        source[0]
    with pytest.raises(ImageError, match=r"masks/road/1\.png is \(1, 2\) pixels, .*masks/car/1\.png is \(1, 1\)"):
        source.annotations(1)
    (tmp_path / "masks" / "classes.txt").write_text("car\nroad\n")
    with pytest.raises(
        ValueError, match=r"classes\.txt names car, road; expected one for the background, .* there: car, road"
    ):
        opened(tmp_path)
    (tmp_path / "masks" / "classes.txt").unlink()
    (tmp_path / "masks" / "road" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"masks/road has no file of the same stem for 1\.png in .*images; add"):
        opened(tmp_path)


def test_empty_and_missing_folders_are_named(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no pictures in .*empty"):
        open_source("folder", "empty:masks", str(tmp_path))
    with pytest.raises(ValueError, match=r"no PNG masks in .*empty"):
        open_source("folder", "images:empty", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        open_source("folder", "images:nowhere", str(tmp_path))
    with pytest.raises(ValueError, match="for pictures and for masks"):
        open_source("folder", "masks:masks", str(tmp_path))
    with pytest.raises(ValueError, match=r"'folder' reads 'folder:IMAGES:MASKS, .*', got 'folder' with split 'a:b:c'"):
        open_source("folder", "a:b:c", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no folder .*train"):
        open_source("folder", "train", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"images has no folder in it, .* two classes or more: .*, or name IMAGES:MASKS"
    ):
        open_source("folder", "images", str(tmp_path))
