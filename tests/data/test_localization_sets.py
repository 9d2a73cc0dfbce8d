"""ILSVRC CLS-LOC and CUB-200-2011, small, in the layout and the files in which they are handed out."""

import numpy as np
import pytest
from devkits import png

from jaxvision.data.images import ImageError, write_image
from jaxvision.data.sources import open_source
from jaxvision.data.validation import ExampleError, validate

SYNSETS = ("n01440764", "n02012849", "n03126707")
MAPPING = "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n"


def annotation(folder, name, objects, size=(30, 40)):
    """An XML as ILSVRC has it: boxes count from 0."""
    boxes = "".join(
        f"<object><name>{synset}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for synset, (x1, y1, x2, y2) in objects
    )
    return (
        f"<annotation><folder>{folder}</folder><filename>{name}</filename><source><database>ILSVRC_2012</database></source>"
        f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size><segmented>0</segmented>"
        f"{boxes}</annotation>"
    )


def picture(number, size=(30, 40)):
    return np.full((*size, 3), 10 * number, np.uint8)


@pytest.fixture
def ilsvrc(tmp_path):
    """Two training pictures with boxes and one without, two of val; the mapping beside ILSVRC, as it is handed out."""
    root = tmp_path / "imagenet"
    base = root / "ILSVRC"
    files = {
        "train/n01440764/n01440764_10": [("n01440764", (0, 0, 9, 4))],
        "train/n03126707/n03126707_7": [("n03126707", (3, 4, 39, 29)), ("n03126707", (1, 1, 40, 31))],
        "train/n02012849/n02012849_1": None,
        "val/ILSVRC2012_val_00000001": [("n02012849", (5, 6, 7, 8))],
        "val/ILSVRC2012_val_00000002": [("n01440764", (0, 0, 39, 29))],
    }
    (base / "ImageSets/CLS-LOC").mkdir(parents=True)
    for number, (path, objects) in enumerate(files.items(), 1):
        image, xml = base / f"Data/CLS-LOC/{path}.JPEG", base / f"Annotations/CLS-LOC/{path}.xml"
        for file in (image, xml):
            file.parent.mkdir(parents=True, exist_ok=True)
        write_image(image.with_suffix(".jpg"), picture(number))
        image.with_suffix(".jpg").rename(image)
        if objects is not None:
            xml.write_text(annotation(path.split("/")[-2], image.stem, objects))
    lists = {
        "train_loc": "n01440764/n01440764_10 1\nn03126707/n03126707_7 2\n",
        "train_cls": "n01440764/n01440764_10 1\nn03126707/n03126707_7 2\nn02012849/n02012849_1 3\n",
        "val": "ILSVRC2012_val_00000001 1\nILSVRC2012_val_00000002 2\n",
        "mine": "val/ILSVRC2012_val_00000002\ntrain/n01440764/n01440764_10\n",
        "test": "ILSVRC2012_test_00000001 1\n",
    }
    for name, text in lists.items():
        (base / f"ImageSets/CLS-LOC/{name}.txt").write_text(text)
    (root / "LOC_synset_mapping.txt").write_text(MAPPING)
    return root


def test_ilsvrc_as_it_is_handed_out(ilsvrc):
    source = open_source(f"ilsvrc:{ilsvrc}", "train_loc")
    assert source.class_names == ("background", "tench", "crane n02012849", "crane n03126707") and len(source) == 2
    first, second = (validate(source[i], 4, num_labels=3) for i in range(2))
    assert first["label"] == 0 and second["label"] == 2
    np.testing.assert_array_equal(first["boxes"], [[0, 0, 10, 5]])
    np.testing.assert_array_equal(second["boxes"], [[3, 4, 40, 30], [1, 1, 40, 30]])  # clipped to the picture
    np.testing.assert_array_equal(second["classes"], [3, 3])
    assert abs(int(first["image"].mean()) - 10) < 3 and first["image"].shape == (30, 40, 3)
    assert source.annotations(1).keys() == second.keys() - {"image"}
    np.testing.assert_array_equal(source.sizes, [[30, 40]] * 2)


def test_ilsvrcs_other_lists(ilsvrc):
    val = open_source(f"ilsvrc:{ilsvrc}:val")
    assert [val.annotations(i)["label"] for i in range(2)] == [1, 0]
    np.testing.assert_array_equal(val[0]["boxes"], [[5, 6, 8, 9]])
    labels = open_source(f"ilsvrc:{ilsvrc / 'ILSVRC'}", "train_cls")  # the folder itself will do
    assert [labels[i]["label"] for i in range(3)] == [0, 2, 1] and "boxes" not in labels.annotations(2)
    np.testing.assert_array_equal(labels.sizes, [[30, 40]] * 3)
    assert labels.sizes is labels.sizes  # the files are looked at once
    mine = open_source(f"ilsvrc:{ilsvrc}", "mine")
    assert [mine[i]["label"] for i in range(2)] == [0, 0] and mine[1]["boxes"].tolist() == [[0, 0, 10, 5]]


def test_what_is_wrong_in_ilsvrc_is_named(ilsvrc):
    def read(split="train_loc", row=0):
        return open_source(f"ilsvrc:{ilsvrc}", split)[row]

    xml = ilsvrc / "ILSVRC/Annotations/CLS-LOC/train/n01440764/n01440764_10.xml"
    whole = xml.read_text()
    for text, message in (
        (whole.replace("<name>n01440764", "<name>n02012849"), "of one class, this one of n01440764, n02012849"),
        (annotation("n01440764", "a", []), "no <object>"),
        (whole.replace("<width>40", "<width>41"), "is 30 x 40"),
        (whole.replace("<xmax>9", "<xmax>nine"), "four numbers"),
        (whole[:-4], "not an XML file"),
    ):
        xml.write_text(text)
        with pytest.raises(ExampleError, match=message) as raised:
            read()
        assert "n01440764_10.xml" in str(raised.value)
    xml.unlink()
    with pytest.raises(ExampleError, match=r"n01440764_10\.xml"):
        read()
    (ilsvrc / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG").unlink()
    with pytest.raises(ImageError, match="ILSVRC2012_val_00000001"):
        read("val")
    with pytest.raises(ValueError, match="no truth"):
        read("test")
    with pytest.raises(FileNotFoundError, match="there are: mine, test, train_cls, train_loc, val"):
        read("train")
    mapping = ilsvrc / "LOC_synset_mapping.txt"
    mapping.write_text("n02012849 crane\n")
    with pytest.raises(ExampleError, match="'n03126707' is not among the 1 synsets"):
        read(row=1)
    for text in ("", "n01440764\n", MAPPING + "n01440764 tench\n"):
        mapping.write_text(text)
        with pytest.raises(ValueError, match="each synset once"):
            read()
    mapping.unlink()
    with pytest.raises(FileNotFoundError, match="no LOC_synset_mapping"):
        read()


@pytest.fixture
def cub(tmp_path):
    """Four pictures of two species, masks of two annotators' agreement."""
    base = tmp_path / "CUB_200_2011"
    names = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    files = [f"{names[n % 2]}/Bird_{n:04d}_{n}.jpg" for n in range(4)]
    for number, file in enumerate(files, 1):
        path, mask = base / "images" / file, (tmp_path / "segmentations" / file).with_suffix(".png")
        for folder in (path.parent, mask.parent):
            folder.mkdir(parents=True, exist_ok=True)
        write_image(path, picture(number))
        grey = np.zeros((30, 40), np.uint8)
        grey[5:20, 6:30], grey[8:15, 10:20] = 102, 204  # two of five, four of five
        mask.write_bytes(png(grey))
    rows = range(1, 5)
    lists = {
        "images": [f"{n} {file}" for n, file in zip(rows, files)],
        "classes": [f"{n} {name}" for n, name in enumerate(names, 1)],
        "image_class_labels": [f"{n} {(n - 1) % 2 + 1}" for n in rows],
        "bounding_boxes": [f"{n} {n}.0 2.0 30.5 20.0" for n in rows],
        "train_test_split": [f"{n} {int(n != 3)}" for n in rows],
    }
    for name, lines in lists.items():
        (base / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_cub_as_it_is_handed_out(cub):
    train, test = (open_source(f"cub:{cub}", split) for split in ("train", "test"))
    assert train.class_names == ("background", "Black footed Albatross", "Laysan Albatross")
    assert [train[i]["image_id"] for i in range(3)] == [1, 2, 4] and len(test) == 1
    example = validate(test[0], 3, num_labels=2)
    assert example["label"] == 0 and example["classes"].tolist() == [1] and example["image_id"] == 3
    np.testing.assert_array_equal(example["boxes"], [[3, 2, 33.5, 22]])
    assert abs(int(example["image"].mean()) - 30) < 3 and "masks" not in example
    assert train.annotations(1)["label"] == 1 and len(open_source(f"cub:{cub / 'CUB_200_2011'}:all")) == 4
    np.testing.assert_array_equal(test.sizes, [[30, 40]])
    assert test.sizes is test.sizes  # the files are looked at once


def test_cubs_masks_are_of_the_majority(cub):
    for source in (open_source(f"cub:{cub}", "test:masks"), open_source(f"cub:{cub}:test:masks")):
        masks = validate(source[0], 3, num_labels=2)["masks"]
        expected = np.zeros((1, 30, 40), np.uint8)
        expected[0, 8:15, 10:20] = 1
        np.testing.assert_array_equal(masks, expected)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bounding_boxes", ("2 2.0 2.0 30.5 20.0\n", ""), "image 2 is in one of them alone"),
        ("bounding_boxes", ("2 2.0 2.0 30.5 20.0", "2 2.0 2.0 30.5"), r"bounding_boxes.txt, line 2: .* and 4 floats"),
        ("bounding_boxes", ("2 2.0", "1 2.0"), "line 2: .* a number that is new"),
        ("bounding_boxes", ("3 3.0", "3 three"), "line 3"),
        ("image_class_labels", ("3 1", "3 5"), "image 3 is of class 5"),
        ("images", ("4 002.Laysan_Albatross/Bird_0003_3.jpg", "4"), r"images.txt, line 4: '4'"),
        ("train_test_split", ("3 0", "3 1"), "no image is of the split 'test'"),
    ],
)
def test_lists_of_cub_that_are_broken_are_named(cub, name, change, message):
    path = cub / "CUB_200_2011" / f"{name}.txt"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ValueError, match=message):
        open_source(f"cub:{cub}", "test")


def test_what_is_not_there_of_cub_is_named(cub):
    with pytest.raises(ValueError, match="no split 'val' of CUB; there are train, test, all"):
        open_source(f"cub:{cub}", "val")
    with pytest.raises(FileNotFoundError, match=r"images\.txt; give the folder"):
        open_source(f"cub:{cub / 'segmentations'}", "test")
    with pytest.raises(FileNotFoundError, match="no folder segmentations"):
        open_source(f"cub:{cub / 'CUB_200_2011'}", "test:masks")
    (cub / "CUB_200_2011/images/001.Black_footed_Albatross/Bird_0002_2.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match="Bird_0002_2"):
        open_source(f"cub:{cub}", "test")[0]
