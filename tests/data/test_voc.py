import pickle
import shutil

import numpy as np
import pytest
from devkits import pictures, voc_palette, write_voc
from scipy.io import savemat

from jaxvision.data.images import ImageError, read_image, write_image
from jaxvision.data.sources import Source, open_source


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    return root, write_voc(root)


def test_the_first_colours_are_those_of_the_devkit():
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
    assert [tuple(colour) for colour in voc_palette()[:5].tolist()] == expected
    assert voc_palette()[20].tolist() == [0, 64, 128] and voc_palette()[255].tolist() == [224, 224, 192]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_reads_as_it_was_written(voc, split):
    root, written = voc
    source = pickle.loads(pickle.dumps(open_source(f"voc:{root}", split)))
    assert isinstance(source, Source) and len(source) == len(written[split])
    assert (
        len(source.class_names) == 21 and source.class_names[0] == "background" and source.class_names[15] == "person"
    )
    assert source.sizes.tolist() == [[48, 64]] * len(source)
    for i, (_, values) in enumerate(written[split]):
        example = source[i]
        np.testing.assert_array_equal(example["semantic"], values)
        np.testing.assert_array_equal(example["image"], read_image(example["file"]))
        assert example["semantic"].dtype == np.int32 and 255 in example["semantic"]
        assert example["file"].endswith(".jpg") and example["mask_file"].endswith(".png")
        assert source.image_ids[i] == example["image_id"] == i
        annotations = source.annotations(i)
        assert annotations.keys() == example.keys() - {"image"}
        np.testing.assert_array_equal(annotations["semantic"], values)


def test_all_ways_to_name_it(voc):
    root = voc[0]
    named = [("voc:" + str(root), "val", ""), (f"voc:{root}:val", "", ""), (f"voc:{root}:val", "train", "")]
    named += [("voc", "val", str(root)), ("voc:VOC2012", "val", str(root.parent))]
    named += [(f"voc:{root.parent}", "val", ""), (f"voc:{root.parent.parent}", "val", "")]
    assert {tuple(open_source(*names).images) for names in named} == {tuple(open_source(f"voc:{root}:val").images)}


def test_a_split_may_be_of_another_source(voc):
    root = voc[0]
    found = open_source(f"sbd:{root}", f"voc:{root}:val")
    assert found.images == open_source(f"voc:{root}:val").images


def test_of_several_years_one_must_be_named(voc):
    shutil.copytree(voc[0], voc[0].parent / "VOC2007")
    with pytest.raises(ValueError, match="VOC2007, VOC2012; give the folder of one"):
        open_source(f"voc:{voc[0].parent}:train")
    assert len(open_source(f"voc:{voc[0]}:train")) == 4


def test_what_is_missing_is_named(voc, tmp_path):
    root = voc[0]
    with pytest.raises(FileNotFoundError, match=r"no split 'validation' in .*; there are: train, val"):
        open_source(f"voc:{root}", "validation")
    with pytest.raises(FileNotFoundError, match=r"no ImageSets/Segmentation in .*nowhere"):
        open_source(f"voc:{tmp_path}/nowhere:train")
    (root / "SegmentationClass" / "2007_000001.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 files of the split are not in .*SegmentationClass: 2007_000001\.png"):
        open_source(f"voc:{root}:train")
    (root / "JPEGImages" / "2007_000002.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 .* not in .*JPEGImages: 2007_000002\.jpg"):
        open_source(f"voc:{root}:train")
    (root / "ImageSets" / "Segmentation" / "none.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"none\.txt lists no images"):
        open_source(f"voc:{root}:none")
    shutil.rmtree(root / "JPEGImages")
    with pytest.raises(FileNotFoundError, match=r"no folder .*JPEGImages"):
        open_source(f"voc:{root}:val")


@pytest.fixture
def sbd(tmp_path):
    """As it is handed out: MATLAB's struct of cells beside the map."""
    root = tmp_path / "benchmark_RELEASE"
    for folder in ("img", "cls", "inst"):
        (root / "dataset" / folder).mkdir(parents=True)
    written = [(picture, np.where(values == 255, 0, values)) for picture, values in pictures(3)]
    for n, (picture, values) in enumerate(written):
        write_image(root / f"dataset/img/2008_{n:06d}.jpg", picture)
        cells = np.empty((20, 1), object)
        cells[:] = [[np.zeros((2, 2))]] * 20
        content = {"Boundaries": cells, "Segmentation": values, "CategoriesPresent": np.unique(values)}
        savemat(root / f"dataset/cls/2008_{n:06d}.mat", {"GTcls": content}, do_compression=True)
    (root / "dataset" / "train.txt").write_text("2008_000002\n2008_000000\n")
    (root / "dataset" / "val.txt").write_text("2008_000001\n")
    return root, written


@pytest.mark.parametrize("below", ["", "dataset"])
def test_sbd_reads_as_it_was_written(sbd, below):
    root, written = sbd
    source = pickle.loads(pickle.dumps(open_source(f"sbd:{root / below}", "train")))
    assert isinstance(source, Source) and len(source) == 2 and len(source.class_names) == 21
    for i, n in enumerate((2, 0)):
        example = source[i]
        np.testing.assert_array_equal(example["semantic"], written[n][1])
        assert example["semantic"].dtype == np.int32 and example["image"].shape == (48, 64, 3)
        assert example["file"].endswith(f"2008_{n:06d}.jpg")
    assert source.sizes.tolist() == [[48, 64]] * 2


def test_what_is_wrong_with_sbd_is_named(sbd):
    root = sbd[0]
    with pytest.raises(FileNotFoundError, match=r"no split 'test' in .*; there are: train, val"):
        open_source(f"sbd:{root}:test")
    path = root / "dataset" / "cls" / "2008_000001.mat"
    source, whole = open_source(f"sbd:{root}:val"), path.read_bytes()
    savemat(path, {"other": np.zeros(3)})
    for content in (path.read_bytes(), whole[:200], whole[: len(whole) - 20], b""):
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"2008_000001\.mat: no class map of SBD"):
            source[0]
