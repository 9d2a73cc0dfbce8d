"""Sets that TFDS itself prepares, by its own builders, from a few records of their features."""

import io
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from devkits import pictures, png
from stocked import prepare

from jaxvision.data.images import ImageError
from jaxvision.data.sources import Source, open_source
from jaxvision.data.tfds_segmentation import LAYOUTS

PETS, CITIES, THINGS = "oxford_iiit_pet", "cityscapes", "scene_parse150"


def jpeg(picture):
    return io.BytesIO(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes())


def pet(n, picture, values):
    record = {
        "label": n,
        "species": 0,
        "file_name": f"beagle_{n}.jpg",
        "head_bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
    }
    return record | {"image": jpeg(picture), "segmentation_mask": io.BytesIO(png(values))}


def city(n, picture, values):
    whole = cv2.resize(picture, (2048, 1024)), np.resize(values, (1024, 2048))
    image, mask = (io.BytesIO(cv2.imencode(".png", array)[1].tobytes()) for array in whole)
    return {"image_id": f"bonn_{n:06d}_000019", "image_left": image, "segmentation_label": mask}


def thing(n, picture, values):
    mask = np.stack([values, np.full_like(values, 200 + n), np.zeros_like(values)], -1)
    return {"image": jpeg(picture), "annotation": io.BytesIO(png(mask))}


def maps(count, values, size):
    rng = np.random.default_rng(0)
    return [rng.choice(np.array(values, np.uint8), size) for _ in range(count)]


@pytest.mark.parametrize("builder", [PETS, THINGS])
def test_a_split_reads_as_it_was_written(builder, monkeypatch, tmp_path):
    size = (48, 64)
    stored = maps(3, (1, 2, 3) if builder == PETS else (0, 1, 7, 100), size)
    images = [picture for picture, _ in pictures(3, size)]
    form = pet if builder == PETS else thing
    prepare(monkeypatch, builder, [form(n, i, v) for n, (i, v) in enumerate(zip(images, stored))], str(tmp_path))
    source = pickle.loads(pickle.dumps(open_source(f"tfds:{builder}", "train", str(tmp_path))))
    assert isinstance(source, Source) and len(source) == 3 and source.sizes is None
    found = set()
    for i in range(3):
        example = source[i]
        n = int(np.argmin([np.abs(example["image"].astype(int) - image).mean() for image in images]))  # TFDS shuffles
        found.add(n)
        assert np.abs(example["image"].astype(int) - images[n]).mean() < 3
        wanted = stored[n].astype(int) - 1
        wanted[stored[n] == 0] = 255
        np.testing.assert_array_equal(example["semantic"], wanted)
        assert example["semantic"].dtype == np.int32 and example["image_id"] == source.image_ids[i] == i
        if builder == PETS:
            assert example["file"] == f"tfds/{builder}/train#beagle_{n}.jpg"
        annotations = source.annotations(i)
        assert annotations.keys() == example.keys() - {"image"}
        np.testing.assert_array_equal(annotations["semantic"], wanted)
    assert found == {0, 1, 2}
    assert len(open_source(f"tfds:{builder}:test", "train", str(tmp_path))) == 1
    assert len(open_source(f"tfds:{builder}", "train[:2]", str(tmp_path))) == 2
    with pytest.raises(ValueError, match="validation"):
        open_source(f"tfds:{builder}", "validation", str(tmp_path))


def test_cityscapes_label_ids_become_train_ids(monkeypatch, tmp_path):
    ids = np.arange(34, dtype=np.uint8)
    ids[0] = 255  # a licence plate
    [(picture, _)] = pictures(1)
    prepare(monkeypatch, CITIES, [city(5, picture, np.resize(ids, (1024, 2048)))], str(tmp_path))
    source = open_source(f"tfds:{CITIES}", "train", str(tmp_path))
    # labels.py of the benchmark: id to trainId
    wanted = [255] * 7 + [
        0,
        1,
        255,
        255,
        2,
        3,
        4,
        255,
        255,
        255,
        5,
        255,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
        255,
        255,
        16,
    ]
    wanted += [17, 18]
    example = source[0]
    assert example["semantic"].ravel()[:34].tolist() == wanted and example["image"].shape == (1024, 2048, 3)
    assert example["file"] == "tfds/cityscapes/train#bonn_000005_000019"
    assert len(source.class_names) == 19 and source.class_names[13] == "car" and source.class_names[18] == "bicycle"


def test_a_value_that_is_no_class_is_named(monkeypatch, tmp_path):
    [(picture, _)] = pictures(1)
    prepare(monkeypatch, PETS, [pet(4, picture, np.full((48, 64), 9))], str(tmp_path))
    source = open_source(f"tfds:{PETS}", "train", str(tmp_path))
    for read in (source.__getitem__, source.annotations):
        with pytest.raises(ImageError, match=r"train#beagle_4\.jpg: segmentation_mask holds \[9\]"):
            read(0)


@pytest.mark.parametrize("builder", LAYOUTS)
def test_a_set_that_is_not_there_says_how_to_prepare_it(builder, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        open_source(f"tfds:{builder}", "train", str(tmp_path))
    text = str(error.value)
    assert f"tfds.builder('{builder}" in text and f"data_dir='{tmp_path}'" in text and "array_record" in text
    manual = "leftImg8bit_trainvaltest.zip' and 'gtFine_trainvaltest.zip'" in text and "downloads/manual" in text
    assert manual == (builder == CITIES)


def test_another_file_format_and_unknown_sets_are_named(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"no set 'mnist' .* Known: oxford_iiit_pet, cityscapes, .*, voc, .*, kitti\."):
        open_source("tfds:mnist", "train")
    with pytest.raises(ValueError, match="no segmentation_label; take another config"):
        open_source("tfds:cityscapes/stereo_disparity", "train", str(tmp_path))
    with tfds.testing.mock_data(as_data_source_fn=_no_random_access, data_dir=str(tmp_path)):
        tfds.builder(PETS).data_path.mkdir(parents=True)
        with pytest.raises(ValueError, match="in the format tfrecord, which has no random access"):
            open_source(f"tfds:{PETS}", "train", str(tmp_path))


def _no_random_access(*_, **__):
    raise NotImplementedError("Random access data source for file format FileFormat.TFRECORD is not supported.")


def test_it_is_read_without_tensorflow(monkeypatch, tmp_path):
    [(picture, _)] = pictures(1)
    prepare(monkeypatch, PETS, [pet(4, picture, np.full((48, 64), 2))], str(tmp_path))
    code = (
        "import sys\nfrom jaxvision.data.sources import open_source\n"
        f"source = open_source('tfds:{PETS}', 'train', {str(tmp_path)!r})\n"
        "print(source[0]['semantic'].sum(), source.annotations(0)['semantic'].size)\n"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.split() == [str(48 * 64)] * 2, done.stderr
