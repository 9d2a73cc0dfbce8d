"""What must not be trained on is named before anything is traced: image, row and remedy. Much of it torchvision takes."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from devkits import png, voc_palette, write_folder, write_voc
from tiny import Rectangles, tiny_config

from jaxvision import architecture as architectures
from jaxvision import cli, tasks
from jaxvision.data.coco import CocoSource, export_coco
from jaxvision.data.images import ImageError, read_image, write_image
from jaxvision.data.loader import Batches, load
from jaxvision.data.sources import open_source
from jaxvision.data.validation import ExampleError
from jaxvision.train import loop
from jaxvision.train.stages import run

FIELDS = (*tasks.get("instance_segmentation").fields, "semantic", "label")


class Altered(Rectangles):
    """Rectangles of 64 x 64 with two objects each, of which image 2 is altered; ids begin at 100."""

    def __init__(self, **changes):
        super().__init__(counts=(2,))
        self.changes = changes

    def __getitem__(self, index):
        example = super().__getitem__(index)
        if index == 2:
            for name, change in self.changes.items():
                example[name] = change(example.get(name))
        return example


def batches(source, **options):
    options = {"batch_size": 4, "fields": FIELDS, "canvases": [(64, 64)], "max_boxes": 3, **options}
    return Batches(source, **options)


def row(index, values):
    """Replaces row `index` of an array."""

    def change(array):
        array = array.copy()
        array[index] = values
        return array

    return change


BAD = {
    "no width": ({"boxes": row(1, [20, 10, 20, 30])}, r"row 1: box \[20.0, 10.0, 20.0, 30.0\] has no width or height"),
    "inverted": ({"boxes": row(0, [30, 10, 20, 30])}, "row 0: .* boxes are x1 y1 x2 y2 with x1 < x2 and y1 < y2"),
    "one box (4,)": ({"boxes": lambda b: b[0]}, r"boxes have shape \(4,\); give \(N, 4\)"),
    "five columns": ({"boxes": lambda b: np.zeros((2, 5))}, r"boxes have shape \(2, 5\)"),
    "boxes that are no numbers": ({"boxes": lambda b: b.astype(str)}, "boxes is of dtype <U"),
    "no boxes but None": ({"boxes": lambda b: None}, "boxes is of dtype object"),
    "NaN": ({"boxes": row(1, [np.nan, 10, 20, 30])}, "row 1: .* holds NaN or infinity"),
    "infinity": ({"boxes": row(1, [0, 0, np.inf, 30])}, "row 1: .* holds NaN or infinity"),
    "outside": ({"boxes": row(0, [70, 70, 90, 90])}, "row 0: .* lies outside the image of height 64 and width 64"),
    "negative": ({"boxes": row(0, [-9, 0, 9, 9])}, "row 0: .* lies outside the image"),
    "background": ({"classes": row(1, 0)}, "row 1: label 0 is background; objects are 1..3"),
    "class -1": ({"classes": row(0, -1)}, r"row 0: class -1 with 4 classes"),
    "class 4 of 4": ({"classes": row(0, 4)}, r"row 0: class 4 with 4 classes .* raise num_classes or correct"),
    "half a class": ({"classes": lambda c: c + 0.5}, "classes is of dtype float"),
    "too many classes": ({"classes": lambda c: np.append(c, 1)}, "3 classes for 2 boxes; give one for each box"),
    "too few classes": ({"classes": lambda c: c[:1]}, "1 classes for 2 boxes"),
    "too few masks": ({"masks": lambda m: m[:1]}, "1 masks for 2 boxes"),
    "masks of another size": ({"masks": lambda m: m[:, ::2]}, r"masks have shape \(2, 32, 64\) in an image of 64 x 64"),
    "masks of 255": ({"masks": lambda m: m * 255}, "masks hold values from 0 to 255; give 0 and 1"),
    "float to 255": ({"image": lambda i: i.astype(np.float32)}, "float image reaches 255; divide by 255"),
    "float NaN": ({"image": lambda i: i * np.float32(np.nan)}, "image holds NaN"),
    "RGBA": ({"image": lambda i: np.concatenate([i, i[..., :1]], -1)}, "expected 3 channels, got 4; convert the image"),
    "grey": ({"image": lambda i: i[..., 0]}, r"image has shape \(64, 64\)"),
    "channels first": ({"image": lambda i: i.transpose(2, 0, 1)}, "expected 3 channels, got 64"),
    "whole numbers that are not uint8": ({"image": lambda i: i.astype(int)}, "image is int64; give uint8"),
    "another semantic": ({"semantic": lambda s: s[:9]}, r"semantic has shape \(9, 64\)"),
    "semantic class 4": ({"semantic": row(5, 4)}, r"semantic is 4 at row 5, column 0; classes are 0..3"),
    "labels of pixels for another number of classes": (
        {"semantic_labels": lambda _: np.zeros((64, 64, 3), bool)},
        r"semantic_labels have shape \(64, 64, 3\) .* give \(64, 64, 4\), one for each class",
    ),
    "labels of pixels that are not 0 and 1": (
        {"semantic_labels": lambda _: np.full((64, 64, 4), 2)},
        "semantic_labels .* other values than 0 and 1",
    ),
    "label 9": ({"label": lambda _: 9}, "label is 9"),
}


@pytest.mark.parametrize("name", BAD)
def test_is_named_by_image_row_and_remedy(name):
    changes, message = BAD[name]
    source = Altered(**changes)
    assert len(batches(Altered())[0]["image"]) == 4
    with pytest.raises(ExampleError, match=message) as error:
        batches(source)[0]
    assert str(error.value).startswith("image 102 (rectangle_2.png): ")
    with pytest.raises(ExampleError, match=message):  # the order of training meets it within an epoch
        list(load(batches(source, seed=0), 0, 4))


@pytest.mark.parametrize("name", ["no width", "NaN", "background", "RGBA"])
def test_is_passed_over_and_counted_if_so_configured(name):
    batch = batches(Altered(**BAD[name][0]), skip_bad=True)[0]
    np.testing.assert_array_equal(batch["image_id"], [100, 101, 103, 103])
    np.testing.assert_array_equal(batch["skipped"], [0, 0, 1, 0])


def test_training_stops_before_its_step_is_traced(monkeypatch, tmp_path):
    def step(*_, **__):
        raise AssertionError("traced")

    monkeypatch.setattr(loop, "train_step", step)
    monkeypatch.setattr(loop, "open_source", lambda *_: Altered(semantic=row(5, 4)))
    config = tiny_config(steps=8)
    with pytest.raises(ExampleError, match=r"image 102 .*: semantic is 4 at row 5"):
        run(config, str(tmp_path))


class People(Altered):
    """One object an image, with joints of which the source names three."""

    keypoint_names = ("head", "hand", "foot")

    def __init__(self, **changes):
        super().__init__(**changes)
        self.counts = (1,)

    def annotations(self, index):
        example = super().annotations(index)
        return example | {"keypoints": np.full((1, 3, 3), 2, np.float32), "label": int(example["classes"][0]) - 1}


def none_of(array):
    return array[:0]


EMPTY = dict.fromkeys(("boxes", "classes", "crowd", "area", "masks", "keypoints"), none_of)
NEEDS = {
    "two joints of three": (
        "pose",
        {"keypoints": lambda k: k[:, :2]},
        "keypoints of 2 joints, where the source names 3",
    ),
    "no person": ("pose", EMPTY, "there are no persons in it, a pose is that of one"),
    "no object": ("localization", EMPTY, "its label is .*, and no object is of that class"),
    "an object of another class": ("localization", {"classes": lambda c: c % 3 + 1}, "no object is of that class"),
    "a class that is not": ("localization", {"label": lambda _: 3}, r"label is 3, expected a whole number in 0\.\.2"),
}


@pytest.mark.parametrize("name", NEEDS)
def test_what_a_task_cannot_use_is_named_by_image_and_file(name):
    task, changes, message = NEEDS[name]
    task = tasks.get(task)
    options = dict(fields=task.fields, check=task.check)
    assert len(batches(People(), **options)[0]["image"]) == 4
    with pytest.raises(ExampleError, match=message) as error:
        batches(People(**changes), **options)[0]
    assert str(error.value).startswith("image 102 (rectangle_2.png): ")
    passed_over = batches(People(**changes), **options, skip_bad=True)[0]
    assert passed_over["image_id"].tolist() == [100, 101, 103, 103] and passed_over["skipped"].sum() == 1


# What is fine


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_classes_may_be_of_any_whole_dtype(dtype):
    expected, batch = batches(Altered())[0], batches(Altered(classes=lambda c: c.astype(dtype)))[0]
    assert batch["classes"].dtype == np.int32
    np.testing.assert_array_equal(batch["classes"], expected["classes"])


def test_boxes_may_be_whole_numbers_and_stick_out_by_a_pixel():
    assert batches(Altered(boxes=lambda b: b.astype(int)))[0]["boxes"].dtype == np.float32
    batch = batches(Altered(boxes=row(0, [-0.6, 3, 20, 64.9])))[0]
    np.testing.assert_array_equal(batch["boxes"][2, 0], [0, 3, 20, 64])


def test_floats_in_0_to_1_are_fine():
    batch = batches(Altered(), fields=("label",))[0]

    class Floats(Altered):
        def __getitem__(self, index):
            example = super().__getitem__(index)
            return {**example, "image": example["image"].astype(np.float32) / 255}

    floats = batches(Floats(), fields=("label",))[0]
    assert floats["image"].dtype == np.float32
    np.testing.assert_allclose(floats["image"] * 255, batch["image"], atol=1e-3)


def test_an_empty_source_is_an_error():
    with pytest.raises(ValueError, match="'rectangles' has no images"):
        batches(Rectangles(sizes=np.zeros((0, 2), int)))


def test_images_without_any_object_train_and_are_scored(monkeypatch, tmp_path):
    """Nowhere an object: the losses of boxes and masks are 0, that of the class is not, and scores of no truth are nan."""
    source = Rectangles(counts=(0,))
    source.class_names = ("background", *"abcdef")  # as many as in tests/test_cli.py: compiled once for both
    monkeypatch.setattr(loop, "open_source", lambda *_: source)
    config = tiny_config("mask_rcnn", steps=2, evaluate={"every": 2})
    scores = run(config, str(tmp_path))["validation"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss/mask" in line]
    assert len(steps) == 2
    for line in steps:
        assert line["loss/rpn_box"] == line["loss/roi_box"] == line["loss/mask"] == 0
        assert line["loss/roi_class"] > 0 and line["loss/rpn_objectness"] > 0 and np.isfinite(line["norm/gradient"])
    assert np.isfinite(scores["loss"]) and np.isnan(scores["box/AP"])


# From files


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return export_coco(Rectangles(counts=(2,)), tmp_path_factory.mktemp("coco"))


def altered_json(coco, tmp_path, change):
    content = json.loads(coco[0].read_text())
    change(content)
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return path, coco[1]


def test_an_annotation_is_named_by_its_id(coco, tmp_path):
    def flatten(content):
        content["annotations"][3]["bbox"][2] = 0

    source = CocoSource(*altered_json(coco, tmp_path, flatten))
    message = r"image 101 \(.*000000000101.png\): row 1 \(annotation 4\): box .* has no width or height"
    with pytest.raises(ExampleError, match=message):
        batches(source, fields=FIELDS[:3])[0]


def test_a_picture_of_another_size_or_cut_off_is_named(coco, tmp_path):
    def rename(content):
        content["images"][1]["file_name"] = "../other.png"

    path, folder = altered_json(coco, tmp_path, rename)
    write_image(folder.parent / "other.png", np.zeros((60, 64, 3), np.uint8))
    with pytest.raises(ValueError, match=r"image 101 .*other.png.* is 60 x 64 .* says 64 x 64"):
        batches(CocoSource(path, folder), fields=FIELDS[:3])[0]
    whole = (folder / "000000000100.png").read_bytes()
    assert read_image(folder / "000000000100.png").shape == (64, 64, 3)
    (folder.parent / "other.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"other\.png: the PNG is cut off"):
        batches(CocoSource(path, folder), fields=FIELDS[:3])[0]


# Segmentation sets, as a config names them


def coloured(values):
    return cv2.imencode(".png", voc_palette()[values][..., ::-1])[1].tobytes()


BAD_MASKS = {
    "a class that is not": (lambda v: png(np.where(v == 255, 21, v), palette=voc_palette()), r" is 21 at row 45"),
    "of another size": (
        lambda v: png(v[:40], palette=voc_palette()),
        r" has shape \(40, 64\) in an image of 48 x 64; give one of its size",
    ),
    "without its palette": (coloured, "a picture in colour, not a class map"),
    "of 16 bits": (lambda v: png(np.full(v.shape, 300), 16), r" is 300 at row 0, column 0; classes are 0\.\.20"),
    "cut off": (lambda v: png(v)[:100], "the PNG is cut off"),
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_a_mask_is_named_by_its_file(name, tmp_path):
    change, message = BAD_MASKS[name]
    values = write_voc(tmp_path)["train"][2][1]
    (tmp_path / "SegmentationClass" / "2007_000002.png").write_bytes(change(values))
    source = open_source(f"voc:{tmp_path}", "train")
    with pytest.raises(ValueError, match=rf"2007_000002\.png\)?:? ?{message}") as error:
        list(load(batches(source, fields=("semantic",), seed=0), 0, 1))
    assert isinstance(error.value, ExampleError | ImageError)
    batch = batches(source, fields=("semantic",), skip_bad=True)[0]
    assert batch["skipped"].tolist() == [0, 0, 1, 0] and batch["real"].tolist() == [True, True, False, True]


def test_a_mask_is_named_where_images_are_seen_in_views(tmp_path):
    values = write_voc(tmp_path)["train"][2][1]
    (tmp_path / "SegmentationClass" / "2007_000002.png").write_bytes(BAD_MASKS["of another size"][0](values))
    blind = SimpleNamespace(task=tasks.get("segmentation"), batch_size=4)
    with pytest.raises(ExampleError, match=r"2007_000002\.png.* has shape \(40, 64\) in an image of 48 x 64"):
        cli._evaluate_views(blind, open_source(f"voc:{tmp_path}", "train"))


@pytest.fixture
def tiny_segmenter(monkeypatch):
    monkeypatch.setitem(architectures.REGISTRY, "segmenter", "segmenter:segmenter")


def test_a_devkit_trains_and_is_scored(tiny_segmenter, tmp_path):
    """Two steps with the transforms of segmentation; a mask that is wrong stops them."""
    write_voc(tmp_path / "voc")
    steps = {
        "random_scale": {},
        "crop": {"height": 48, "width": 48},
        "flip": {},
        "photometric_distort": {},
        "elastic": {},
    }
    data = {"source": f"voc:{tmp_path}/voc", "validation": "val", "transforms": steps}
    config = tiny_config("segmenter", steps=2, evaluate={"every": 2}, data=data)
    scores = run(config, str(tmp_path / "run"))["validation"]
    assert 0 <= scores["mean_iu"] <= 1 and np.isfinite(scores["loss"]) and "mean_iu/class/aeroplane" in scores
    pictures = {path.stem for path in (tmp_path / "run" / "pictures").glob("*.png")}
    assert pictures == {f"step_0000002_{name}" for name in ("image_0", "image_1", "image_2", "confusion")}
    for path in (tmp_path / "voc" / "SegmentationClass").glob("2007_0000*.png"):
        path.write_bytes(coloured(np.zeros((48, 64), int)))
    with pytest.raises(ValueError, match=r"2007_00000\d\.png: a picture in colour"):
        run(config, str(tmp_path / "again"))


def test_splits_of_different_classes_are_named(tiny_segmenter, tmp_path):
    for split, classes in ("train", 4), ("val", 3):
        write_folder(tmp_path / split, classes=classes, names=())
    data = {"source": "folder", "dir": str(tmp_path), "train": "train/images:train/masks"}
    config = tiny_config("segmenter", data={**data, "validation": "val/images:val/masks"})
    with pytest.raises(ValueError, match=r"data\.validation has 3 classes, data\.train 4: name the same"):
        run(config, str(tmp_path / "run"))
    for split, names in ("train", "abcd"), ("val", "abdc"):
        (tmp_path / split / "masks" / "classes.txt").write_text("\n".join(names))
    with pytest.raises(
        ValueError, match=r"data\.validation has other classes than data\.train: class 2 is 'd', not 'c'"
    ):
        run(config, str(tmp_path / "again"))


def test_transforms_that_need_what_a_set_has_not_are_named(tmp_path):
    write_folder(tmp_path)
    source = open_source("folder", "images:masks", str(tmp_path))
    for name, message in ("iou_crop", "go by the boxes"), ("copy_paste", "this source has none"):
        with pytest.raises(ValueError, match=message):
            batches(source, fields=("semantic",), seed=0, transforms_config={name: {}})[0]
