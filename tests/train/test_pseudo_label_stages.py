"""A classifier, a stage that makes maps of what it looks at, and a segmenter that learns from them."""

import dataclasses
import json
import os
from collections.abc import Mapping

import jax
import numpy as np
import pytest
from tiny import Rectangles, tiny_config

from jaxvision import architecture as architectures
from jaxvision import tasks
from jaxvision.data.images import ImageError
from jaxvision.data.index_maps import read_index_map
from jaxvision.data.pseudo_labels import PseudoLabels, with_pseudo_labels
from jaxvision.data.validation import ExampleError
from jaxvision.data.weak import weaken
from jaxvision.data.wrapper import Wrapper
from jaxvision.models.weak import pseudo_labels as module
from jaxvision.models.weak.pseudo_labels import fit_pseudo_labels
from jaxvision.train import loop, stages

FIT = "jaxvision.models.weak.pseudo_labels:fit_pseudo_labels"
WEAK = {"weak": {"inexact": {"level": "image"}}}


class Guarded(Mapping):
    """An example of which only the picture and image-level labels may be read."""

    ALLOWED = ("image", "image_id", "file", "label", "labels", "classes")

    def __init__(self, example):
        self.example = example

    def __getitem__(self, name):
        assert name in self.ALLOWED or name not in self.example, f"{name} was read"
        return self.example[name]

    def __iter__(self):
        return iter(self.example)

    def __contains__(self, name):
        return name in self.example

    def __len__(self):
        return len(self.example)


class GuardedRectangles(Rectangles):
    def __getitem__(self, index):
        return Guarded({"image": np.zeros((48, 64, 3), np.uint8), **super().__getitem__(index)})

    def annotations(self, index):
        return Rectangles.annotations(self, index)


class Renamed(Wrapper):
    """Files of another split, counted alike."""

    def annotations(self, index):
        return {**self.source.annotations(index), "file": f"other/{index}"}


@pytest.fixture(autouse=True)
def sources(monkeypatch):
    """Training sees guarded examples, validation all."""
    monkeypatch.setitem(architectures.REGISTRY, "mapper", "mapper:mapper")
    guarded, known = GuardedRectangles(((48, 64),) * 8), Rectangles(((48, 64),) * 4)
    monkeypatch.setattr(loop, "open_source", lambda name, split, *_: guarded if split == "train" else known)
    return guarded


def plan(**settings):
    return (
        {"name": "classify", "steps": 1},
        {"name": "labels", "fit": FIT, "settings": settings, "init": ((".*", "classify"),)},
        {
            "name": "segment",
            "architecture": {"name": "segmenter"},
            "data": {"pseudo_labels": "labels"},
            "steps": 1,
        },
    )


def config(**settings):
    return tiny_config("segmenter", architecture={"name": "mapper"}, data=WEAK, stages=plan(**settings))


def test_from_image_level_labels_to_a_segmenter(tmp_path, sources, monkeypatch):
    """Neither boxes nor masks of the training images are read on the way; maps are made for all, at their own size."""
    seen = []
    make = stages.fit
    monkeypatch.setattr(stages, "fit", lambda *a: seen.append(a[0].data.pseudo_labels) or make(*a))
    scores = stages.run(config(), str(tmp_path))
    assert 0 <= scores["validation"]["mean_iu"] <= 1 and scores["validation"]["loss"] > 0
    assert seen == ["", str(tmp_path / "labels")]
    pointer = json.loads((tmp_path / "labels" / "pseudo_labels.json").read_text())
    folder = tmp_path / "labels" / pointer["folder"]
    assert sorted(os.listdir(folder)) == sorted(f"{100 + i}.png" for i in range(8))
    for i in range(8):
        semantic, label = read_index_map(folder / f"{100 + i}.png"), Rectangles.annotations(sources, i)["label"]
        assert semantic.shape == (48, 64) and set(np.unique(semantic)) <= {0, label + 1}
    trained_on = loop.make_batches(
        tiny_config("segmenter", data={"pseudo_labels": str(tmp_path / "labels")}),
        "train",
        tasks.get("segmentation"),
        train=False,
    )
    np.testing.assert_array_equal(trained_on[0]["semantic"][2, :48], read_index_map(folder / "102.png"))
    assert isinstance(trained_on.source, PseudoLabels)
    assert trained_on.source.annotations(3).keys() == {"image_id", "file", "mask_file", "semantic"}


@pytest.fixture
def classifier():
    """(architecture, variables, source, batches) of image-level labels."""
    architecture = architectures.create("mapper", num_classes=3)
    made = loop.make_batches(tiny_config("segmenter", data=WEAK), "train", tasks.get("classification"), train=False)
    return architecture, jax.device_get(architecture.init(jax.random.key(0), made[0])), made.source, made


def maps(directory):
    pointer = json.loads((directory / "pseudo_labels.json").read_text())
    return [read_index_map(directory / pointer["folder"] / f"{100 + i}.png") for i in range(8)]


def test_grad_cam_of_a_network_that_averages_gives_the_same_seeds(classifier, tmp_path):
    """Its maps are the rectified class maps over the number of cells, and each map is divided by its maximum."""
    architecture, variables, source, batches = classifier
    for name, settings in (("maps", {}), ("gradcam", {"seeds": "gradcam", "layer": "c1"})):
        (tmp_path / name).mkdir()
        given = fit_pseudo_labels(architecture, variables, source, str(tmp_path / name), batches, **settings)
        assert given is variables
    same = [np.mean(a == b) for a, b in zip(maps(tmp_path / "maps"), maps(tmp_path / "gradcam"))]
    assert min(same) > 0.999 and any(len(np.unique(m)) == 2 for m in maps(tmp_path / "maps"))


def test_maps_are_made_once_for_settings_and_weights(classifier, tmp_path, monkeypatch):
    architecture, variables, source, batches = classifier

    def folders(variables=variables, **settings):
        fit_pseudo_labels(architecture, variables, source, str(tmp_path), batches, **settings)
        return {name for name in os.listdir(tmp_path) if name.startswith("pseudo_labels_")}

    first = folders()
    monkeypatch.setattr(module, "_maps_of", lambda *_: lambda *_: pytest.fail("they are there already"))
    assert folders() == first and len(first) == 1
    monkeypatch.undo()
    before = maps(tmp_path)
    second = folders(threshold=0.7)
    assert len(second) == 2 and any((a != b).any() for a, b in zip(before, maps(tmp_path)))
    assert len(folders(jax.tree.map(lambda x: x + 1, variables))) == 3
    other = dataclasses.replace(architecture, options={**architecture.options, "delta": 0.5})  # of the same weights
    fit_pseudo_labels(other, variables, source, str(tmp_path), batches)
    assert len(folders()) == 4
    monkeypatch.setattr(module, "_maps_of", lambda *_: lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        folders(threshold=0.5)
    assert len({name for name in os.listdir(tmp_path) if not name.endswith(".partial")}) == 5  # and the pointer


def test_other_images_or_labels_are_other_maps(classifier, tmp_path):
    """As many images of another split, others of the same one, and labels of which some are wrong."""
    architecture, variables, source, batches = classifier
    rectangles = source.source
    sources = [source, weaken(Renamed(rectangles), WEAK["weak"])]
    sources += [weaken(rectangles, {"incomplete": {"share": 0.5, "seed": seed}, **WEAK["weak"]}) for seed in (0, 1)]
    sources += [weaken(rectangles, {"inaccurate": {"rate": 0.5, "seed": seed}, **WEAK["weak"]}) for seed in (0, 1)]
    for one in sources:
        fit_pseudo_labels(architecture, variables, one, str(tmp_path), batches)
    assert len([name for name in os.listdir(tmp_path) if name.startswith("pseudo_labels_")]) == len(sources)


def test_an_annotation_that_cannot_be_read_is_passed_over_where_that_is_said():
    class Broken(Wrapper):
        def annotations(self, index):
            if index == 3:
                raise ExampleError("image 103: no <object>")
            return self.source.annotations(index)

    source = Broken(Rectangles())
    assert module._images(source, True) not in (0, module._images(Rectangles(), True))
    with pytest.raises(ExampleError, match="image 103"):
        module._images(source, False)


def test_settings_of_pseudo_labels_that_cannot_be_meant(classifier, tmp_path):
    architecture, variables, source, batches = classifier
    for settings, match in (
        ({"seeds": "saliency"}, "seeds 'saliency' is not one of maps, gradcam"),
        ({"threshold": 0.0}, "threshold 0.0 lies between"),
        ({"certain": 1.0}, "certain 1.0 in 0..1"),
        ({"crf": "none"}, "no preset 'none'"),
        ({"seeds": "gradcam", "layer": "c7"}, "no layer 'c7'"),
    ):
        with pytest.raises(ValueError, match=match):
            fit_pseudo_labels(architecture, variables, source, str(tmp_path), batches, **settings)
    roads = Rectangles()
    roads.class_names = ("road", "sky", "tree")
    with pytest.raises(ValueError, match="classes of 'rectangles' begin with 'road', but what no class wins is"):
        fit_pseudo_labels(architecture, variables, roads, str(tmp_path), batches)
    without = architectures.create("mapper", num_classes=3, maps=False)
    with pytest.raises(ValueError, match="mapper has no maps of classes"):
        fit_pseudo_labels(without, variables, source, str(tmp_path), batches)
    with pytest.raises(ValueError, match="has no setting 'treshold'; did you mean \"threshold\""):
        stages.run(config(treshold=0.3), str(tmp_path / "run"))


def test_labels_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="Name an earlier stage"):
        with_pseudo_labels(Rectangles(), str(tmp_path))
    source = Rectangles()
    assert with_pseudo_labels(source, "") is source
    with pytest.raises(ImageError, match=r"image 100: .* made of another source"):
        PseudoLabels(source, str(tmp_path))[0]
    source.overlapping = True  # which maps of a network are not
    assert not PseudoLabels(source, str(tmp_path)).overlapping
