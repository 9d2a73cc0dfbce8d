import cv2
import jax
import numpy as np
import pytest
from tiny import ARCHITECTURES

import jaxvision
from jaxvision import batch as fields
from jaxvision import tasks
from jaxvision.data.images import ImageError, read_image, write_image
from jaxvision.data.transforms import ResizeToCanvas

RNG = np.random.default_rng(0)


def picture(height, width):
    """Smooth, so that JPEG keeps it and detectors do not see noise alone."""
    noise = RNG.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (9, 9), 3)


SIZES = [(64, 64), (50, 70), (33, 40), (64, 64), (120, 90)]
PICTURES = [picture(*size) for size in SIZES]


def build(name, noise=0.02, **changes):
    """(architecture, variables) in which no parameter is zero, so that results differ from image to image."""
    options = {**ARCHITECTURES[name], "num_classes": 4, **changes}
    architecture = jaxvision.create(**options)
    blank = fields.blank(tasks.get(architecture.task).fields, (64, 64))
    variables = architecture.init(jax.random.key(0), blank)
    return architecture, jax.tree.map(
        lambda leaf: leaf + noise * RNG.normal(size=leaf.shape).astype(np.float32), variables
    )


@pytest.fixture(scope="module")
def segmenter():
    architecture, variables = build("fcn8s", noise=0.3)
    batch = {"image": PICTURES[0][None], "image_size": np.array([[64, 64]])}
    logits = jax.jit(architecture.model.apply)(variables, batch)["logits"]
    variables["params"]["score"]["bias"] -= logits.mean((0, 1, 2))  # no class wins everywhere
    return architecture, variables


@pytest.fixture(scope="module")
def detector():
    return build("mask_rcnn", score_threshold=0.1)


@pytest.fixture(scope="module")
def on_canvas(detector):
    return jaxvision.Predictor(*detector, canvas=(64, 64), batch_size=3)


def assert_same(a, b, atol=1e-3):
    assert len(a) == len(b)
    for one, other in zip(a, b):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert value.shape == other[name].shape, name
            if value.dtype.kind == "f":
                np.testing.assert_allclose(value, other[name], atol=atol, err_msg=name)
            else:
                assert np.mean(value == other[name]) > 0.999, name  # a pixel may lie on the threshold


def test_a_detectors_results_are_in_pixels_of_each_image(detector, on_canvas):
    results = on_canvas(PICTURES)
    assert any(len(result["boxes"]) for result in results)
    architecture, variables = detector
    forward = jax.jit(lambda batch: architecture.predict(architecture.model.apply(variables, batch), batch))
    for (height, width), image, result in zip(SIZES, PICTURES, results):
        count = len(result["boxes"])
        assert result["masks"].shape == (count, height, width) and result["masks"].dtype == bool
        assert result["classes"].shape == result["scores"].shape == (count,)
        assert (np.diff(result["scores"]) <= 0).all()
        assert (result["boxes"] >= 0).all() and (result["boxes"] <= [width, height, width, height]).all()
        fitted = ResizeToCanvas((64, 64))({"image": image})
        batch = {name: fitted[name][None].repeat(3, 0) for name in ("image", "image_size")}
        predictions = jax.device_get(forward(batch))
        scale = np.array([width, height] * 2) / np.array(fitted["image_size"])[[1, 0, 1, 0]]
        boxes = predictions["boxes"][0][predictions["valid"][0]] * scale
        np.testing.assert_allclose(result["boxes"], boxes, atol=1e-2)


def test_the_size_of_the_batch_changes_nothing(detector, on_canvas):
    assert_same(jaxvision.Predictor(*detector, canvas=(64, 64))(PICTURES), on_canvas(PICTURES))


def test_the_threshold_drops_what_scores_less(detector, on_canvas):
    [everything] = on_canvas(PICTURES[:1])
    assert len(everything["scores"]) > 2
    threshold = float(everything["scores"][1])
    [kept] = jaxvision.Predictor(*detector, canvas=(64, 64), batch_size=3, threshold=threshold)(PICTURES[:1])
    assert_same([{name: value[:2] for name, value in everything.items()}], [kept])


def test_images_of_their_own_size_are_padded_to_multiples_of_32(segmenter):
    architecture, variables = segmenter
    predictor = jaxvision.Predictor(architecture, variables)
    results = predictor(PICTURES)
    assert [result["semantic"].shape for result in results] == SIZES
    image = np.zeros((1, 64, 96, 3), np.uint8)
    image[0, :50, :70] = PICTURES[1]
    batch = {"image": image, "image_size": np.array([[50, 70]], np.int32)}
    logits = jax.jit(architecture.model.apply)(variables, batch)["logits"]
    assert len(np.unique(results[1]["semantic"])) > 1
    assert_same([results[1]], [{"semantic": np.array(logits).argmax(-1)[0, :50, :70]}])
    assert predictor._forward._cache_size() == 3  # 64 x 64 three times, 64 x 96, 128 x 96


def test_floats_in_0_to_1_are_the_same_pictures(segmenter):
    predictor = jaxvision.Predictor(*segmenter)
    whole = predictor(PICTURES[:2])
    for dtype in (np.float32, np.float64):
        assert_same(predictor([image.astype(dtype) / 255 for image in PICTURES[:2]]), whole)


def test_a_classifier_gives_probabilities():
    [result] = jaxvision.Predictor(*build("resnet"), canvas=(64, 64))(PICTURES[4:])
    assert result["probabilities"].shape == (4,) and result["probabilities"].sum() == pytest.approx(1, rel=1e-5)


def test_files_of_any_kind(segmenter, tmp_path):
    predictor = jaxvision.Predictor(*segmenter, batch_size=2)
    write_image(tmp_path / "a.png", PICTURES[0])
    write_image(tmp_path / "b.jpg", PICTURES[1])
    cv2.imwrite(str(tmp_path / "grey.png"), PICTURES[2][..., 0])
    rgba = np.dstack([PICTURES[0][..., ::-1], np.full((64, 64), 7, np.uint8)])
    cv2.imwrite(str(tmp_path / "rgba.png"), rgba)
    jpeg = (tmp_path / "b.jpg").read_bytes()
    # One tag: orientation 6, shown turned clockwise by a quarter.
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06" + b"\0" * 6
    exif = b"Exif\0\0" + tiff
    (tmp_path / "turned.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    names = ["a.png", "b.jpg", "grey.png", "rgba.png", "turned.jpg"]
    paths = [tmp_path / name if name < "c" else str(tmp_path / name) for name in names]
    arrays = [read_image(path) for path in paths]
    arrays[2] = np.repeat(PICTURES[2][..., :1], 3, 2)
    assert arrays[4].shape == (70, 50, 3)
    assert_same(predictor(paths), predictor(arrays))
    assert_same(predictor([paths[3]]), predictor(PICTURES[:1]))  # alpha is dropped


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], ValueError, "Give a list of at least one image"),
        (PICTURES[0], ValueError, "Give a list of at least one image"),
        ("a.png", ValueError, "Give a list of at least one image"),
        (PICTURES[:1] + [np.zeros((8, 8, 4), np.uint8)], ValueError, "image 1: expected 3 channels, got 4"),
        ([np.zeros((8, 8), np.uint8)], ValueError, r"image 0: image has shape \(8, 8\)"),
        ([np.full((8, 8, 3), 200.0)], ValueError, "image 0: float image reaches 200; divide by 255"),
        ([np.full((8, 8, 3), np.nan)], ValueError, "image 0: image holds NaN"),
        ([np.zeros((8, 8, 3), np.int64)], ValueError, "image 0: image is int64; give uint8"),
        ([np.zeros((0, 8, 3), np.uint8)], ValueError, "image 0: image is empty"),
        (["/nowhere/a.png"], ImageError, "/nowhere/a.png: cannot be read"),
    ],
    ids=str,
)
def test_what_is_no_image_is_an_error(segmenter, images, error, message):
    with pytest.raises(error, match=message):
        jaxvision.Predictor(*segmenter)(images)


@pytest.mark.parametrize("options", [{"canvas": "whole"}, {"canvas": 64}, {"canvas": (64, 64, 3)}, {"batch_size": 0}])
def test_options_that_cannot_be_meant(segmenter, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        jaxvision.Predictor(*segmenter, **options)
