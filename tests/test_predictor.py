import dataclasses
import json
import pathlib
import runpy

import cv2
import jax
import numpy as np
import pytest
from tiny import ARCHITECTURES

import jaxvision
from jaxvision import batch as fields
from jaxvision import preprocess, tasks
from jaxvision.data.images import ImageError, read_image, write_image
from jaxvision.data.transforms import ResizeToCanvas
from jaxvision.ops.boxes import iou

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


@pytest.mark.parametrize("options", [{}, {"tta": jaxvision.TTA()}, {"batch_size": 2}], ids=str)
def test_an_image_too_small_for_the_network_is_named(options, tmp_path):
    """The network says so as it is traced, when it has seen none of its parameters."""
    path = tmp_path / "small.png"
    write_image(path, PICTURES[2][:20])
    image = np.zeros((4, 8, 3), np.uint8)
    for name, least in (("deconvnet", 224), ("alexnet", 63)):
        predictor = jaxvision.Predictor(jaxvision.create(name, num_classes=4), {}, **options)
        with pytest.raises(
            ValueError, match=rf"^image 0(, .*small\.png)?: Images of 32x32 are too small .* {least} pixels"
        ):
            predictor([image, path])
        with pytest.raises(ValueError, match=r"^\S*small\.png: Images of 32x64 are too small"):
            predictor([path])
    with pytest.raises(ValueError, match=r"^Images of 32x32 are too small"):  # which is no image's fault
        jaxvision.Predictor(predictor.architecture, {}, canvas=(32, 32), **options)([path])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canvas": "whole"}, "canvas must be"),
        ({"canvas": 64}, "canvas must be"),
        ({"canvas": (64, 64, 3)}, "canvas must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"resize": {"min_size": 64}}, "resize is .*known are the keys"),
        ({"resize": {"min_size": 0, "max_size": 64}}, "sizes are pixels, at least 1"),
        ({"resize": {"stretch": (64, 64)}, "canvas": (64, 64)}, "sees images of one size; leave canvas out"),
        ({"resize": {"stretch": (64, 64)}, "tta": jaxvision.TTA(scales=(1, 2))}, "leave other scales out"),
        ({"min_size": 64}, "has no option 'min_size'"),
    ],
    ids=str,
)
def test_options_that_cannot_be_meant(segmenter, options, message):
    with pytest.raises(ValueError, match=message):
        jaxvision.Predictor(*segmenter, **options)


# Resizing by the rules of published weights


@pytest.mark.parametrize(
    ("size", "rule", "expected"),
    [
        ((480, 640), {"min_size": 800, "max_size": 1333}, (800, 1066)),
        ((640, 480), {"min_size": 800, "max_size": 1333}, (1066, 800)),
        ((97, 100), {"min_size": 800, "max_size": 1333}, (799, 824)),  # 97 * (800 / 97) is less than 800
        ((100, 1000), {"min_size": 800, "max_size": 1333}, (133, 1333)),
        ((1, 5000), {"min_size": 800, "max_size": 1333}, (1, 1333)),
        ((480, 640), {"stretch": (300, 300)}, (300, 300)),
        ((375, 500), {"resize": 256, "crop": 224}, (256, 341)),
        ((500, 375), {"resize": 520}, (693, 520)),
        ((33, 40), {}, (33, 40)),
    ],
    ids=str,
)
def test_sizes_are_torchvisions(size, rule, expected):
    assert preprocess.new_size(size, rule) == expected


def test_resizing_is_torchs():
    torch = pytest.importorskip("torch")
    image = PICTURES[4].astype(np.float32) / 255

    def torchs(image, size, **options):
        options = {"mode": "bilinear", "align_corners": False, **options}
        tensor = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
        return torch.nn.functional.interpolate(tensor, size, **options)[0].numpy().transpose(1, 2, 0)

    for size in [(240, 180), (77, 58), (800, 600)]:
        ours = preprocess.resized(image, size, {"min_size": 1, "max_size": 1})
        np.testing.assert_allclose(ours, torchs(image, size), atol=2e-5)
        np.testing.assert_allclose(preprocess.resized(PICTURES[4], size, {"stretch": size}), ours, atol=1e-6)
    for size in [(64, 48), (160, 120)]:
        ours = preprocess.resized(image, size, {"resize": 48})
        np.testing.assert_allclose(ours, torchs(image, size, antialias=True), atol=2e-6)
        eight_bits = preprocess.resized(PICTURES[4], size, {"resize": 48}).astype(int)
        tensor = torch.from_numpy(PICTURES[4].transpose(2, 0, 1)[None])
        torchs_own = torch.nn.functional.interpolate(tensor, size, mode="bilinear", antialias=True)[0].numpy()
        off = np.abs(eight_bits - torchs_own.transpose(1, 2, 0))
        assert off.max() <= 1 and (off > 0).mean() < 0.01
    crop = preprocess.resized(image, (64, 48), {"resize": 48, "crop": 40})
    np.testing.assert_array_equal(crop, preprocess.resized(image, (64, 48), {"resize": 48})[12:52, 4:44])


RULE = {"min_size": 64, "max_size": 96}


@pytest.fixture(scope="module")
def by_rule(detector):
    architecture = dataclasses.replace(detector[0], predictor={"resize": RULE, "class_names": ("none", "a", "b", "c")})
    return architecture, detector[1]


def test_images_are_resized_as_the_architecture_says(by_rule):
    predictor = jaxvision.Predictor(*by_rule)
    results = predictor(PICTURES)
    for (height, width), image, result in zip(SIZES, PICTURES, results):
        scale = min(64 / min(height, width), 96 / max(height, width))
        size = int(height * scale), int(width * scale)
        canvas = np.zeros((1, *(-(-side // 32) * 32 for side in size), 3), np.float32)
        canvas[0, : size[0], : size[1]] = preprocess.resized(image, size, RULE)
        batch = {"image": canvas, "image_size": np.array([size], np.int32)}
        predictions = jax.device_get(predictor._forward(predictor.variables, batch))
        boxes = predictions["boxes"][0][predictions["valid"][0]] * (np.array([width, height] * 2) / (size[::-1] * 2))
        np.testing.assert_allclose(result["boxes"], boxes, rtol=1e-5)
        np.testing.assert_array_equal(result["names"], np.array(["none", "a", "b", "c"])[result["classes"]])
    assert predictor._forward._cache_size() == 3  # 64 x 64 twice, 64 x 96 twice, 96 x 64


def test_a_few_canvases_are_a_few_compilations(by_rule, detector):
    canvases = [(96, 96), (64, 64), (64, 96)]
    predictor = jaxvision.Predictor(*by_rule, canvas=canvases, batch_size=2)
    rows = [predictor._row(image) for image in PICTURES]
    assert [row["image"].shape[:2] for row in rows] == [(64, 64), (64, 96), (64, 96), (64, 64), (96, 96)]
    assert [tuple(row["image_size"]) for row in rows] == [(64, 64), (64, 89), (64, 77), (64, 64), (85, 64)]
    results = predictor(PICTURES)
    assert predictor._forward._cache_size() == 3
    for image, result in zip(PICTURES, results):  # on one canvas the same alone and in any batch
        assert_same([result], predictor([image]))
    assert predictor._forward._cache_size() == 3
    [row] = [jaxvision.Predictor(*by_rule, canvas=(32, 64))._row(PICTURES[4])]  # too large for it: fitted
    assert row["image"].shape == (32, 64, 3) and tuple(row["image_size"]) == (32, 24)


def test_a_prediction_leaves_the_device_once(by_rule):
    predictor = jaxvision.Predictor(*by_rule, canvas=(64, 64))
    row = predictor._row(PICTURES[0])
    batch = {name: row[name][None] for name in ("image", "image_size")}
    text = str(jax.make_jaxpr(predictor._forward)(predictor.variables, batch))
    assert "dot_general" in text and "callback" not in text


# Several views of one image


def test_flipped_boxes_masks_and_joints_come_back():
    tta = jaxvision.TTA(flip_pairs=((0, 1),))
    result = {
        "boxes": np.float32([[2, 3, 10, 20]]),
        "classes": np.array([1]),
        "scores": np.float32([0.5]),
        "masks": np.eye(4, dtype=bool)[None],
        "keypoints": np.float32([[[2, 3, 1], [9, 5, 1], [4, 4, 1]]]),
        "keypoint_scores": np.float32([[1, 2, 3]]),
    }
    back = tta.unmirror(result, 40)
    np.testing.assert_array_equal(back["boxes"], [[30, 3, 38, 20]])
    np.testing.assert_array_equal(back["masks"][0], np.eye(4)[:, ::-1])
    np.testing.assert_array_equal(back["keypoints"][0], [[31, 5, 1], [38, 3, 1], [36, 4, 1]])
    np.testing.assert_array_equal(back["keypoint_scores"], [[2, 1, 3]])
    np.testing.assert_array_equal(tta.unmirror(back, 40)["boxes"], result["boxes"])
    with pytest.raises(ValueError, match="give flip_pairs, or flip=False"):
        jaxvision.TTA().unmirror(result, 40)


def seen(boxes, scores, classes, masks):
    return {
        "boxes": np.float32(boxes).reshape(-1, 4),
        "scores": np.float32(scores),
        "classes": np.array(classes, int),
        "masks": np.array(masks, bool).reshape(-1, 1, 4),
    }


def test_flipped_poses_and_boxes_of_classes_come_back_and_are_averaged():
    tta = jaxvision.TTA(flip_pairs=((0, 1),))
    pose = {"joints": np.array([[1, 2, 1], [30, 4, 1], [7, 8, 1]], np.float32)}
    back = tta.unmirror(pose, 40)
    np.testing.assert_array_equal(back["joints"], [[10, 4, 1], [39, 2, 1], [33, 8, 1]])
    np.testing.assert_array_equal(tta.fuse([pose, back])["joints"][0], [5.5, 3, 1])
    with pytest.raises(ValueError, match="give flip_pairs"):
        jaxvision.TTA().unmirror(pose, 40)
    found = {
        "probabilities": np.array([0.2, 0.8]),
        "class_boxes": np.array([[0, 1, 10, 5], [20, 2, 40, 8]], np.float32),
    }
    back = jaxvision.TTA().unmirror(found, 40)
    np.testing.assert_array_equal(back["class_boxes"], [[30, 1, 40, 5], [0, 2, 20, 8]])
    fused = jaxvision.TTA().fuse([found, back])
    np.testing.assert_array_equal(fused["class_boxes"], [[15, 1, 25, 5], [10, 2, 30, 8]])
    np.testing.assert_array_equal(fused["probabilities"], found["probabilities"])


def test_boxes_of_several_views_are_fused():
    views = [
        seen([[0, 0, 10, 10], [50, 50, 60, 60]], [0.8, 0.3], [1, 2], [[1, 1, 0, 0], [0, 0, 0, 1]]),
        seen([[0, 0, 10, 11], [0, 0, 10, 10]], [0.4, 0.2], [1, 2], [[1, 0, 1, 0], [0, 1, 0, 0]]),
    ]
    nms = jaxvision.TTA(iou=0.5).fuse(views)
    np.testing.assert_array_equal(nms["boxes"], [[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 10]])
    np.testing.assert_allclose(nms["scores"], [0.8, 0.3, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(nms["classes"], [1, 2, 2])
    np.testing.assert_array_equal(nms["masks"][0, 0], [1, 1, 0, 0])  # two thirds of the scores
    weighted = jaxvision.TTA(iou=0.5, fusion="weighted").fuse(views)
    np.testing.assert_allclose(weighted["boxes"][0], [0, 0, 10, 10 + 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(weighted["scores"], [0.6, 0.15, 0.1], rtol=1e-6)  # (.8 + .4) / 2; seen once of twice
    assert len(jaxvision.TTA(detections=1).fuse(views)["boxes"]) == 1
    nothing = seen([], [], [], [])
    empty = jaxvision.TTA().fuse([nothing, nothing])
    assert empty["boxes"].shape == (0, 4) and empty["masks"].shape == nothing["masks"].shape
    with pytest.raises(ValueError, match="fusion is 'mean'"):
        jaxvision.TTA(fusion="mean")


def test_a_detector_with_views(by_rule):
    images = PICTURES[:2]
    alone = jaxvision.Predictor(*by_rule)(images)
    one = jaxvision.Predictor(*by_rule, tta=jaxvision.TTA(flip=False, iou=1.0))(images)
    assert_same(one, alone)
    results = jaxvision.Predictor(*by_rule, tta=jaxvision.TTA(scales=(1, 1.5), fusion="weighted"))(images)
    for image, result in zip(images, results):
        height, width = image.shape[:2]
        assert result["masks"].shape == (len(result["boxes"]), height, width) and result["masks"].dtype == bool
        assert (result["boxes"] >= 0).all() and (result["boxes"] <= [width, height, width, height]).all()
        assert (np.diff(result["scores"]) <= 0).all() and len(result["names"]) == len(result["boxes"])
    symmetric = np.concatenate([images[0], images[0][:, ::-1]], 1)
    [result] = jaxvision.Predictor(*by_rule, tta=jaxvision.TTA(iou=0.999))([symmetric])
    assert len(result["boxes"])
    mirrored = result["boxes"].copy()
    mirrored[:, [0, 2]] = symmetric.shape[1] - mirrored[:, [2, 0]]
    assert (np.array(iou(mirrored, result["boxes"])).max(1) > 0.99).mean() > 0.9


def test_segmenters_and_classifiers_average_probabilities(segmenter):
    alone = jaxvision.Predictor(*segmenter)(PICTURES[:2])
    one = jaxvision.Predictor(*segmenter, tta=jaxvision.TTA(flip=False))(PICTURES[:2])
    assert_same(one, alone)
    tta = jaxvision.TTA(scales=(1, 2))
    symmetric = np.concatenate([PICTURES[0], PICTURES[0][:, ::-1]], 1)
    [result] = jaxvision.Predictor(*segmenter, tta=tta)([symmetric])
    assert (result["semantic"] == result["semantic"][:, ::-1]).mean() > 0.999
    classifier = build("resnet")
    views = [PICTURES[0], PICTURES[0][:, ::-1]]
    expected = np.mean([r["probabilities"] for r in jaxvision.Predictor(*classifier)(views)], 0)
    [result] = jaxvision.Predictor(*classifier, tta=jaxvision.TTA())(views[:1])
    np.testing.assert_allclose(result["probabilities"], expected, rtol=1e-4)


# torchvision's own outputs

GOLDEN = pathlib.Path(__file__).parent / "golden"


def golden(name):
    formula = runpy.run_path(str(GOLDEN / "formula.py"))
    shapes = json.loads((GOLDEN / f"{name}.shapes.json").read_text())
    return formula["state_dict"](shapes), formula["image"], dict(np.load(GOLDEN / f"{name}.npz"))


def test_a_classifier_of_torchvision():
    entries, image, expected = golden("resnet18")
    predictor = jaxvision.Predictor(*jaxvision.load_torchvision("resnet18", entries), resize={})
    [result] = predictor([image("classify", 224, 224)])
    logits = expected["logits"][0].astype(np.float64)
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose(result["probabilities"], probabilities, atol=1e-5)


@pytest.mark.parity
def test_a_detector_of_torchvision():
    entries, image, expected = golden("maskrcnn_resnet50_fpn")
    pictures = [image("detect0", 160, 200), image("detect1", 180, 120)]
    options = dict(min_size=192, max_size=320, candidates=4000)
    loaded = jaxvision.load_torchvision("maskrcnn_resnet50_fpn", entries, **options)
    results = jaxvision.Predictor(*loaded)(pictures)
    for i, result in enumerate(results):
        overlap = np.array(iou(expected[f"boxes.{i}"], result["boxes"]))
        alike = (overlap > 0.99) & (expected[f"labels.{i}"][:, None] == result["classes"])
        alike &= abs(expected[f"scores.{i}"][:, None] - result["scores"]) < 1e-3
        assert len(result["boxes"]) == len(expected[f"boxes.{i}"])
        assert alike.any(1).mean() >= 0.98
        best = alike.argmax(1)[: len(expected[f"masks.{i}"])]
        same = (result["masks"][best] == expected[f"masks.{i}"][:, 0]).mean((1, 2))
        assert np.median(same) > 0.999 and (same > 0.99).mean() >= 0.9
