"""Detection sets of TFDS through samples that its own builders' features have encoded and decode."""

import pickle
import sys

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from devkits import pictures, write_voc_detection
from stocked import encoded, stocked

from jaxvision.data.images import encoded_size
from jaxvision.data.sources import Source, open_source
from jaxvision.data.tfds_detection import LAYOUTS
from jaxvision.data.validation import ExampleError, validate

SIZE = (48, 64)


def voc_record(n, picture, objects):
    height, width = picture.shape[:2]
    rows = [
        {
            "label": label,
            "bbox": tfds.features.BBox(ymin / height, xmin / width, ymax / height, xmax / width),
            "pose": "left",
            "is_truncated": True,
            "is_difficult": difficult == 1,
        }
        for label, (xmin, ymin, xmax, ymax), difficult in objects
    ]
    labels = sorted({label for label, *_ in objects})
    record = {"image": encoded(picture), "image/filename": f"2007_{n:06d}.jpg", "objects": rows}
    return record | {"labels": labels, "labels_no_difficult": labels}


@pytest.mark.parametrize("year", ["2007", "2012"])
def test_voc_is_the_same_as_from_its_devkit(year, tmp_path):
    rng = np.random.default_rng(0)
    objects = []
    for n in range(4):
        size = np.array([64, 48])
        corners = [np.sort(rng.integers(1, size + 1, (2, 2)), axis=0).ravel().tolist() for _ in range(3 * n)]
        names = rng.choice(["aeroplane", "person", "tvmonitor", "dog"], 3 * n)
        objects.append([(str(k), box, int(rng.random() < 0.4)) for k, box in zip(names, corners)])
    examples = [(picture, rows) for (picture, _), rows in zip(pictures(4, SIZE), objects)]
    write_voc_detection(tmp_path / "VOC", {"train": examples})
    wanted = open_source(f"voc_detection:{tmp_path}:train:empty")
    with stocked([voc_record(n, *example) for n, example in enumerate(examples)]):
        source = open_source(f"tfds:voc/{year}", "train")
        assert isinstance(source, Source) and source.name == f"tfds/voc/{year}"
        assert source.class_names == wanted.class_names and len(source) == 4
        for i in range(4):
            found, annotations, expected = source[i], source.annotations(i), wanted[i]
            for name in ("boxes", "classes", "difficult", "image_id"):
                np.testing.assert_array_equal(found[name], expected[name])
                np.testing.assert_array_equal(annotations[name], expected[name])
                assert np.asarray(found[name]).dtype == np.asarray(expected[name]).dtype
            assert np.abs(found["image"].astype(int) - expected["image"]).mean() < 3
            assert found["file"] == f"tfds/voc/{year}/train#2007_{i:06d}.jpg" and "image" not in annotations
            validate(found, len(source.class_names))


def test_a_copy_in_a_worker_opens_its_files_again():
    [(picture, _)] = pictures(1, SIZE)
    with stocked([voc_record(0, picture, [("cat", (1, 1, 64, 48), 0)])]):
        source = pickle.loads(pickle.dumps(open_source("tfds:voc/2007:train")))
        assert source[0]["boxes"].tolist() == [[0, 0, 64, 48]]


def test_all_whole_boxes_of_large_pictures_come_back_exactly():
    """float32 keeps shares; at VOC's, WIDER FACE's and KITTI's sizes a thousandth of a pixel is left."""
    for layout, width in (("voc", 500), ("wider_face", 1024), ("kitti", 1242)):
        edges = np.arange(1, width) if layout != "kitti" else np.round(np.arange(0, width, 0.37), 2)
        stored = np.float32(edges / width)
        np.testing.assert_array_equal(np.round(stored.astype(np.float64) * width, 3), edges)


def face(x, y, w, h, size, invalid=False):
    """As the builder reads a line of the annotations: clipped to the picture."""
    height, width = size
    sides = [np.clip(v, 0, m) / m for v, m in ((y, height), (x, width), (y + h, height), (x + w, width))]
    marks = {"blur": 2, "expression": False, "illumination": True, "occlusion": 1, "pose": False, "invalid": invalid}
    return {"bbox": tfds.features.BBox(*sides), **marks}


def test_wider_faces():
    [(picture, _), (other, _)] = pictures(2, SIZE)
    faces = [face(3, 4, 10, 12, SIZE), face(60, 40, 20, 20, SIZE, invalid=True), face(5, 5, 0, 9, SIZE)]
    name = "0--Parade/0_Parade_marchingband_1_849.jpg"
    records = [{"image": encoded(picture), "image/filename": name, "faces": faces}]
    records += [{"image": encoded(other), "image/filename": "empty.jpg", "faces": []}]
    with stocked(records):
        source = open_source("tfds:wider_face", "validation")
        assert source.class_names == ("background", "face")
        for example in (source[0], source.annotations(0)):
            assert example["boxes"].tolist() == [[3, 4, 13, 16], [60, 40, 64, 48]]
            assert example["classes"].tolist() == [1, 1] and example["difficult"].tolist() == [False, True]
            assert example["file"] == f"tfds/wider_face/validation#{name}"
        for example in (source[1], source.annotations(1)):
            assert example["boxes"].shape == (0, 4) and example["difficult"].shape == (0,)
        validate(source[0], 2)
        validate(source[1], 2)


KITTI_LABELS = (
    b"Car 0.00 1 -1.57 10.25 12.50 30.75 40.00 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n",
    b"DontCare -1 -1 -10 1.00 1.00 9.00 9.00 -1 -1 -1 -1000 -1000 -1000 -10\n",
    b"Person_sitting 0.30 2 1.20 0.00 0.00 63.00 47.00 1.2 0.5 0.8 1.0 1.5 12.0 1.2\n",
    b"Misc 0.00 3 0.10 40.13 3.07 47.99 9.41 1.2 0.5 0.8 1.0 1.5 12.0 1.2\n",
)


def test_kitti_stands_upright():
    """By the builder's own reading of a label file, which turns y around; DontCare is not taken up."""
    module = sys.modules[tfds.builder_cls("kitti").__module__]
    [(picture, _)] = pictures(1, SIZE)
    rows = module._parse_kitti_annotations(KITTI_LABELS)
    for row in rows:
        row["bbox"] = module._build_bounding_box(row.pop("bbox_raw"), *SIZE)
    with stocked([{"image": encoded(picture, ".png"), "image/file_name": "000007.png", "objects": rows}]):
        source = open_source("tfds:kitti", "train")
        assert source.class_names[1:] == (
            *("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc"),
        )
        wanted = np.array([line.split()[4:8] for line in KITTI_LABELS if b"DontCare" not in line], np.float32)
        for example in (source[0], source.annotations(0)):
            np.testing.assert_array_equal(example["boxes"], wanted)
            assert [source.class_names[c] for c in example["classes"]] == ["Car", "Person_sitting", "Misc"]
            assert "difficult" not in example and example["file"] == "tfds/kitti/train#000007.png"
        np.testing.assert_array_equal(source[0]["image"], picture)


def test_a_box_without_extent_is_named_where_none_should_be():
    [(picture, _)] = pictures(1, SIZE)
    flat = {
        "type": "Car",
        "truncated": 0.0,
        "occluded": 0,
        "alpha": 0.0,
        "bbox": tfds.features.BBox(0.5, 0.5, 0.5, 0.75),
    }
    flat |= {"dimensions": [1.0] * 3, "location": [1.0] * 3, "rotation_y": 0.0}
    with stocked([{"image": encoded(picture, ".png"), "image/file_name": "7.png", "objects": [flat]}]):
        source = open_source("tfds:kitti", "train")
        with pytest.raises(ExampleError, match=r"tfds/kitti/train#7\.png\): row 0: box .* has no width or height"):
            validate(source[0], 9)


@pytest.mark.parametrize("builder", ["voc/2007", "voc/2012", "wider_face", "kitti"])
def test_a_set_that_is_not_there_says_how_to_prepare_it(builder, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        open_source(f"tfds:{builder}", "train", str(tmp_path))
    assert f"tfds.builder('{builder}'" in str(error.value) and f"data_dir='{tmp_path}'" in str(error.value)
    assert builder.partition("/")[0] in LAYOUTS


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_the_size_of_an_encoded_picture(suffix):
    for size in ((48, 64), (1, 300), (257, 2)):
        picture = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
        assert encoded_size("a", encoded(picture, suffix).getvalue()) == size
    progressive = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    thumbnail = encoded(picture[:20]).getvalue()
    block = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail  # its own size must not be taken
    assert encoded_size("a", progressive[:2] + block + progressive[2:]) == (257, 2)
