import pickle

import numpy as np
import pytest
from devkits import pictures, voc_xml, write_voc_detection

from jaxvision.data.images import ImageError, read_image, write_image
from jaxvision.data.loader import Batches
from jaxvision.data.sources import Source, label_names, open_source
from jaxvision.data.validation import ExampleError, validate

SIZE = (48, 64)
OBJECTS = [
    [("dog", (1, 1, 64, 48), 0), ("person", (10, 5, 10, 5), 1)],
    [("tvmonitor", ("3.5", "4.25", 30, 40), 0)],
    [("aeroplane", (2, 3, 20, 30), 1), ("person", (8, 8, 20, 22), 0), ("cat", (30, 30, 64, 48), 0)],
]


def examples(objects, seed=0):
    return [(picture, rows) for (picture, _), rows in zip(pictures(len(objects), SIZE, seed=seed), objects)]


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2007"
    write_voc_detection(root, {"trainval": examples(OBJECTS), "test": examples(OBJECTS[1:], seed=1)})
    return root


@pytest.mark.parametrize(("split", "objects"), [("trainval", OBJECTS), ("test", OBJECTS[1:])])
def test_a_split_reads_as_it_was_written(voc, split, objects):
    source = pickle.loads(pickle.dumps(open_source(f"voc_detection:{voc}", split)))
    assert isinstance(source, Source) and len(source) == len(objects) and len(source.class_names) == 21
    assert label_names(source)[19] == "tvmonitor" and source.sizes.tolist() == [list(SIZE)] * len(source)
    for i, rows in enumerate(objects):
        example = source[i]
        np.testing.assert_array_equal(example["image"], read_image(example["file"]))
        assert [source.class_names[c] for c in example["classes"]] == [label for label, *_ in rows]
        wanted = [[float(box[0]) - 1, float(box[1]) - 1, float(box[2]), float(box[3])] for _, box, _ in rows]
        assert example["boxes"].tolist() == wanted and example["boxes"].dtype == np.float32
        assert example["difficult"].tolist() == [difficult == 1 for *_, difficult in rows]
        assert example["image_id"] == source.image_ids[i] == i
        annotations = source.annotations(i)
        assert annotations.keys() == example.keys() - {"image"}
        np.testing.assert_array_equal(annotations["boxes"], wanted)
        validate(example, len(source.class_names))


def test_a_box_covers_the_pixels_that_the_devkit_counts(tmp_path):
    """White pixels painted at xmin..xmax, ymin..ymax, counted from 1 and with both ends, are those that the box cuts out."""
    picture = np.zeros((*SIZE, 3), np.uint8)
    xmin, ymin, xmax, ymax = 9, 17, 40, 32
    for y in range(ymin, ymax + 1):
        for x in range(xmin, xmax + 1):
            picture[y - 1, x - 1] = 255
    write_voc_detection(tmp_path / "VOC2007", {"train": [(picture, [("cat", (xmin, ymin, xmax, ymax), 0)])]})
    example = open_source(f"voc_detection:{tmp_path}:train")[0]
    x1, y1, x2, y2 = example["boxes"][0].astype(int)
    inside = example["image"][y1:y2, x1:x2]
    assert inside.min() > 127 and inside.shape[:2] == (ymax - ymin + 1, xmax - xmin + 1)
    assert (example["image"] > 127).sum() == inside.size


def test_difficult_objects_are_not_learnt_from(voc):
    source = open_source(f"voc_detection:{voc}:trainval")
    batches = Batches(source, batch_size=3, fields=("boxes", "classes", "valid"), canvases=[(64, 64)], max_boxes=4)
    batch = batches[0]
    assert batch["valid"].tolist() == [
        [True, False, False, False],
        [True, False, False, False],
        [True, True, False, False],
    ]
    assert batch["classes"][2].tolist() == [15, 8, 1, 0]  # the difficult one after the others


def test_all_ways_to_name_it(voc):
    root = voc
    named = [("voc_detection:" + str(root), "test", ""), (f"voc_detection:{root}:test", "", "")]
    named += [("coco", f"voc_detection:{root}:test", ""), ("voc_detection:VOC2007", "test", str(root.parent))]
    named += [(f"voc_detection:{root.parent}", split, "") for split in ("test", "VOC2007/test")]
    found = {tuple(open_source(*names).images) for names in named}
    assert len(found) == 1


def test_years_together(voc):
    later = voc.parent / "VOC2012"
    write_voc_detection(later, {"trainval": examples(OBJECTS[:2], seed=2)}, year="2012")
    root = voc.parent
    both = open_source(f"voc_detection:{root}", "VOC2007/trainval+VOC2012/trainval")
    parts = [open_source(f"voc_detection:{root / year}:trainval") for year in ("VOC2007", "VOC2012")]
    assert both.images == parts[0].images + parts[1].images and both.image_ids.tolist() == list(range(5))
    for i in range(5):
        part, k = (parts[0], i) if i < 3 else (parts[1], i - 3)
        np.testing.assert_array_equal(both[i]["image"], part[k]["image"])
        np.testing.assert_array_equal(both[i]["boxes"], part[k]["boxes"])
    assert len(open_source(f"voc_detection:{voc}", "trainval+test")) == 5
    with pytest.raises(ValueError, match="VOC2007, VOC2012; give the folder of one"):
        open_source(f"voc_detection:{root}:trainval")
    with pytest.raises(ValueError, match=r"2007_000100 comes 2 times in test\+trainval\+test"):
        open_source(f"voc_detection:{voc}:test+trainval+test")
    (later / "classes.txt").write_text("dog\nperson\n")
    with pytest.raises(
        ValueError, match=r"VOC2012 has the classes dog, person, the split before it aeroplane, bicycle"
    ):
        open_source(f"voc_detection:{root}", "VOC2007/trainval+VOC2012/trainval")


def test_a_set_of_ones_own_names_its_classes(tmp_path):
    root = tmp_path / "own"
    write_voc_detection(root, {"train": examples([[("helmet", (1, 1, 9, 9), 0), ("glove", (4, 4, 30, 20), 0)]])})
    source = open_source(f"voc_detection:{root}:train")
    with pytest.raises(
        ExampleError,
        match=r"2007_000000\.xml: unknown class 'glove', 'helmet'; known are aeroplane, .*tvmonitor\. Other",
    ):
        source[0]
    (root / "classes.txt").write_text("helmet\nglove\n")
    picture = root / "JPEGImages" / "2007_000000.jpg"
    write_image(picture.with_suffix(".png"), read_image(picture))
    picture.unlink()
    path = root / "Annotations" / "2007_000000.xml"
    path.write_text(path.read_text().replace("<width>64<", "<width>0<").replace("<difficult>0</difficult>", ""))
    source = open_source(f"voc_detection:{root}:train")
    assert source.class_names == ("background", "helmet", "glove") and source.sizes.tolist() == [list(SIZE)]
    assert source[0]["classes"].tolist() == [1, 2] and source[0]["difficult"].tolist() == [False, False]
    path.write_text(voc_xml("a", SIZE, [("hat", (1, 1, 9, 9), 0)]))
    with pytest.raises(ExampleError, match="unknown class 'hat'; known are helmet, glove"):
        source.annotations(0)


def test_pictures_without_objects_must_be_meant(tmp_path):
    root = tmp_path / "own"
    write_voc_detection(root, {"train": examples([[], [("cat", (1, 1, 9, 9), 0)]])})
    source = open_source(f"voc_detection:{root}:train")
    for read in (source.__getitem__, source.annotations):
        with pytest.raises(ExampleError, match=r"2007_000000\.xml: there is no <object> in it; .*SPLIT:empty"):
            read(0)
    for names in ((f"voc_detection:{root}", "train:empty"), (f"voc_detection:{root}:train:empty", "")):
        example = open_source(*names)[0]
        assert example["boxes"].shape == (0, 4) and len(example["classes"]) == len(example["difficult"]) == 0
        validate(example, 21)
    with pytest.raises(ValueError, match="may stand ':empty', not 'none'"):
        open_source(f"voc_detection:{root}", "train:none")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</annotation>", "", r"not an XML file that can be read \(no element found: line"),
        ("<annotation>", "<annotation", "not an XML file that can be read"),
        ("annotation>", "html>", "its root is <html>, expected <annotation>"),
        ("<name>dog</name>", "<name>wolf</name>", "unknown class 'wolf'; known are aeroplane"),
        ("<name>dog</name>", "", "unknown class ''"),
        ("<xmin>1</xmin>", "<xmin>left</xmin>", r"object 0 \(dog\): its bndbox is .*'left'"),
        ("<xmin>1</xmin>", "", r"object 0 \(dog\): its bndbox is .*None"),
        ("<xmin>1</xmin>", "<xmin>nan</xmin>", r"object 0 \(dog\): its bndbox .* holds no pixel"),
        ("<xmin>10</xmin>", "<xmin>11</xmin>", r"object 1 \(person\): its bndbox .*'11'.* holds no pixel"),
        ("<difficult>1</difficult>", "<difficult>yes</difficult>", r"object 1 \(person\): .*difficult 'yes'"),
    ],
)
def test_what_is_wrong_with_an_xml_is_named(voc, old, new, message):
    path = voc / "Annotations" / "2007_000000.xml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    source = open_source(f"voc_detection:{voc}:trainval")
    for read in (source.__getitem__, source.annotations):
        with pytest.raises(ExampleError, match=r"Annotations/2007_000000\.xml: " + message):
            read(0)
    assert len(source[1]["boxes"]) == 1


def test_an_xml_of_another_picture_is_named(voc):
    path = voc / "Annotations" / "2007_000001.xml"
    path.write_text(path.read_text().replace("<width>64<", "<width>48<").replace("<height>48<", "<height>64<"))
    source = open_source(f"voc_detection:{voc}:trainval")
    with pytest.raises(
        ExampleError, match=r"000001\.xml: its size is 64 x 48, .*000001\.jpg is 48 x 64 .* another picture"
    ):
        source[1]


def test_what_is_missing_is_named(voc, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no split 'validation' in .*Main; there are: test, trainval$"):
        open_source(f"voc_detection:{voc}", "validation")
    with pytest.raises(FileNotFoundError, match=r"no ImageSets/Main in .*nowhere"):
        open_source(f"voc_detection:{tmp_path}/nowhere:train")
    with pytest.raises(ValueError, match=r"cat_test\.txt is the list of one class; name a split of all"):
        open_source(f"voc_detection:{voc}:cat_test")
    (voc / "Annotations" / "2007_000002.xml").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 files of the split are not in .*Annotations: 2007_000002\.xml"):
        open_source(f"voc_detection:{voc}:trainval")
    (voc / "JPEGImages" / "2007_000001.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 .* not in .*JPEGImages: 2007_000001\.jpg"):
        open_source(f"voc_detection:{voc}:trainval")
    source = open_source(f"voc_detection:{voc}:test")
    source.images[0].unlink()
    with pytest.raises(ImageError, match=r"2007_000100\.jpg: cannot be read"):
        source[0]
