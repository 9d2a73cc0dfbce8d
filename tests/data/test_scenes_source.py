"""What is stored and read."""

import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest
from drawn import semantic

from jaxvision.data import drawing, person, scenes

TINY = {"train": 24, "validation": 8, "test": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tiny prepared sets of two configs."""
    path = str(tmp_path_factory.mktemp("tfds"))
    for name in ("shapes", "single"):
        scenes.prepare(name, path, TINY)
    return path


def test_source_gives_back_what_was_drawn(folder):
    source = scenes.open_scenes("shapes", "validation", folder)
    assert len(source) == 8 and source.name == "scenes/shapes"
    assert source.class_names == ("background", *scenes.SHAPES)
    assert source.keypoint_names == person.JOINTS and np.array_equal(source.sizes, np.full((8, 2), 128))
    for number in range(len(source)):
        drawn, example = scenes.scene(scenes.CONFIGS["shapes"], "validation", number), source[number]
        objects = drawn["objects"]
        assert np.array_equal(example["image"], drawn["image"])
        assert example["image_id"] == drawn["image_id"] and example["file"] == f"scenes/shapes/validation#{number}"
        assert np.array_equal(example["semantic"], semantic(drawn)) and example["semantic"].dtype == np.int32
        assert example["classes"].tolist() == [entry["class"] + 1 for entry in objects]
        assert example["captions"] == [entry["caption"] for entry in objects]
        expected = {"boxes": "box", "area": "area", "crowd": "crowd", "keypoints": "joints"}
        for ours, theirs in expected.items():
            assert np.array_equal(example[ours], np.stack([entry[theirs] for entry in objects])), ours
        assert [example[key].dtype for key in ("boxes", "area", "keypoints")] == [np.float32] * 3
        assert example["classes"].dtype == np.int32 and example["crowd"].dtype == bool
        assert example["masks"].dtype == np.uint8
        assert np.array_equal(example["masks"].sum((1, 2)), example["area"])
        assert np.array_equal((example["masks"] * example["classes"][:, None, None]).sum(0), example["semantic"])
        assert "label" not in example and "semantic_labels" not in example and not source.overlapping

        annotations = source.annotations(number)
        assert set(annotations) == set(example) - {"image"}
        assert all(np.array_equal(annotations[key], example[key]) for key in annotations)


def test_overlapping_labels_are_whole_shapes(tmp_path):
    """As the objects of the same scene, painted again, cover the picture; what is hidden is labelled as what is seen."""
    scenes.prepare("overlapping", str(tmp_path), {"train": 12, "validation": 1, "test": 1})
    source, config, several = (
        scenes.open_scenes("overlapping", "train", str(tmp_path)),
        scenes.CONFIGS["overlapping"],
        0,
    )
    assert source.overlapping and len(source.class_names) == 7
    for number in range(12):
        names = scenes.deal(config, "train", number)
        _, things = drawing.paint(scenes._generator("overlapping", "train", number), names, config.style)
        expected = np.zeros((128, 128, 7), bool)
        for thing in things:
            expected[thing.coverage >= 0.5, source.class_names.index(thing.name)] = True
        expected[..., 0] = ~expected.any(-1)
        example = source[number]
        labels, semantic = example["semantic_labels"], example["semantic"]
        np.testing.assert_array_equal(labels, expected)
        assert labels.dtype == bool and np.array_equal(source.annotations(number)["semantic_labels"], labels)
        seen = np.take_along_axis(labels, semantic[..., None], -1)[..., 0]
        assert seen[semantic > 0].all()
        several += (labels.sum(-1) > 1).sum()
    assert several > 12 * 50


def test_single_objects_have_a_label(folder):
    source = scenes.open_scenes("single", "train", folder)
    for index in range(len(source)):
        example = source[index]
        assert example["classes"].tolist() == [example["label"] + 1]


def test_slices_unknown_names_and_indices(folder):
    part = scenes.open_scenes("shapes", "train[4:10]", folder)
    assert len(part) == 6 and part[0]["file"] == "scenes/shapes/train#4"
    with pytest.raises(ValueError, match="no split 'val'"):
        scenes.open_scenes("shapes", "val", folder)
    with pytest.raises(ValueError, match="no config 'forms'"):
        scenes.open_scenes("forms", "train", folder)
    with pytest.raises(IndexError, match="no example 6"):
        part[6]


def test_image_ids_are_unique_over_splits(folder):
    sources = [scenes.open_scenes("shapes", split, folder) for split in scenes.SPLITS]
    identities = [source.annotations(i)["image_id"] for source in sources for i in range(len(source))]
    assert len(set(identities)) == sum(TINY.values())


def test_a_prepared_set_is_taken_as_it_is(folder, capsys):
    builder = scenes.prepare("shapes", folder, {"train": 3, "validation": 3, "test": 3})
    assert builder.info.splits["train"].num_examples == 24
    assert capsys.readouterr().out == ""


def test_the_source_travels_to_another_process(folder):
    source = scenes.open_scenes("shapes", "test", folder)
    first = source[0]
    copy = pickle.loads(pickle.dumps(source))
    assert np.array_equal(copy[0]["image"], first["image"])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(source.__getitem__, (0,))["image"], first["image"])


PREPARE = """
import sys
from jaxvision.data import scenes
scenes.prepare("people", sys.argv[1], {"train": 40, "validation": 4, "test": 4})
source = scenes.open_scenes("people", "train", sys.argv[1])
assert len(source) == 40 and source[39]["label"] == 0
assert not [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "jax", "flax")]
"""


def test_two_processes_prepare_at_once_and_without_tensorflow(tmp_path):
    command = [sys.executable, "-c", PREPARE, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        assert output == "" or (output.startswith("Preparing scenes/people in ") and output.count("\n") == 1)
    assert [path.name for path in (tmp_path / "scenes" / "people").iterdir()] == ["1.0.0"]
