"""Classification sets of TFDS through samples that its own builders' features have encoded and decode."""

import io
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds
from devkits import pictures, png
from stocked import encoded, prepare, stocked

from jaxvision.data.loader import Batches
from jaxvision.data.sources import Source, label_names, open_source
from jaxvision.data.tfds_classification import LAYOUTS
from jaxvision.data.validation import ExampleError, validate

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar(n, label):
    picture = np.random.default_rng(n).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    return picture, {"id": f"train_{n:05d}", "image": encoded(picture, ".png"), "label": label}


def test_cifar10(monkeypatch, tmp_path):
    made = {label: cifar(n, label) for n, label in enumerate(("cat", "ship", "airplane"))}
    prepare(monkeypatch, "cifar10", [record for _, record in made.values()], str(tmp_path), CIFAR)
    source = pickle.loads(pickle.dumps(open_source("tfds:cifar10", "train", str(tmp_path))))
    assert isinstance(source, Source) and source.name == "tfds/cifar10" and source.class_names == CIFAR
    assert sorted(source[i]["label"] for i in range(len(source))) == [0, 3, 8]
    for i in range(3):  # in TFDS's order
        picture, record = made[CIFAR[source[i]["label"]]]
        np.testing.assert_array_equal(source[i]["image"], picture)
        assert source[i]["file"] == f"tfds/cifar10/train#{record['id']}" and source[i]["image_id"] == i
        assert source.annotations(i) == {k: v for k, v in source[i].items() if k != "image"}
    batch = Batches(source, batch_size=3, fields=("label",), canvases=[(32, 32)])[0]
    assert batch["label"].tolist() == [source[i]["label"] for i in range(3)] and (batch["image_size"] == 32).all()
    np.testing.assert_array_equal(batch["image"][1], source[1]["image"])


def test_cifar100_has_its_fine_labels():
    _, record = cifar(0, 95)
    with stocked([{**record, "coarse_label": 1}]):
        source = open_source("tfds:cifar100", "test")
        assert len(source.class_names) == 100 and source[0]["label"] == 95


@pytest.mark.parametrize(
    ("builder", "count", "label"),
    [("imagenet2012", 1000, "n01440764"), ("imagenette", 10, "n03394916"), ("imagenette/320px-v2", 10, "n03888257")],
)
def test_imagenets(builder, count, label):
    [(picture, _)] = pictures(1)
    record = {"image": encoded(picture), "label": label}
    if builder == "imagenet2012":
        record["file_name"] = "n01440764_10026.JPEG"
    with stocked([record]):
        source = open_source(f"tfds:{builder}", "validation")
        assert len(source.class_names) == count == len(label_names(source))
        assert source.class_names[source[0]["label"]] == label
        assert np.abs(source[0]["image"].astype(int) - picture).mean() < 3
        assert source[0]["file"] == f"tfds/{builder}/validation#{record.get('file_name', 0)}"
        validate(source[0], count)


def test_what_has_no_label_is_named():
    [(picture, _)] = pictures(1)
    with stocked([{"image": encoded(picture), "label": -1, "file_name": "ILSVRC2012_test_00000001.JPEG"}]):
        source = open_source("tfds:imagenet2012", "test")
        with pytest.raises(
            ExampleError, match=r"test_00000001\.JPEG\): label is -1, expected a whole number in 0\.\.999"
        ):
            Batches(source, batch_size=1, fields=("label",), canvases=[(32, 32)])[0]


def test_birds_have_a_box():
    [(picture, mask), _] = pictures(2)
    record = {
        "image": encoded(picture),
        "image/filename": "002.Laysan_Albatross/Laysan_Albatross_0001_545.jpg",
        "label": 1,
        "label_name": "Laysan_Albatross",
        "bbox": tfds.features.BBox(ymin=5 / 48, xmin=10.5 / 64, ymax=40 / 48, xmax=1.0),
        "segmentation_mask": io.BytesIO(png(mask)),
    }
    with stocked([record]):
        source = open_source("tfds:caltech_birds2011", "train")
        assert source.class_names[0] == "background" and len(label_names(source)) == 200
        for example in (source[0], source.annotations(0)):
            assert example["label"] == 1 and example["classes"].tolist() == [2]
            np.testing.assert_array_equal(example["boxes"], np.float32([[10.5, 5, 64, 40]]))
            assert example["file"].endswith("Laysan_Albatross_0001_545.jpg")
        validate(source[0], 201, num_labels=200)
        batch = Batches(source, batch_size=1, fields=("label", "boxes", "valid"), canvases=[(48, 64)], max_boxes=1)[0]
        assert batch["label"] == 1 and batch["boxes"].tolist() == [[[10.5, 5, 64, 40]]]


@pytest.mark.parametrize("builder", LAYOUTS)
def test_a_set_that_is_not_there_says_how_to_prepare_it(builder, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        open_source(f"tfds:{builder}", "train", str(tmp_path))
    assert f"tfds.builder('{builder}" in str(error.value) and f"data_dir='{tmp_path}'" in str(error.value)
