import colorsys
import dataclasses

import cv2
import numpy as np
import pytest

from jaxvision.data.geometry import IGNORED, MEAN_COLOUR
from jaxvision.data.ssd_transforms import INTERPOLATIONS, IoUCrop, PhotometricDistort, RandomInterpolation, ZoomOut
from jaxvision.data.transforms import StretchToCanvas, build


def scene(seed, height=40, width=60, objects=3):
    """A picture of one coloured rectangle an object, which may hide each other."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, (width - 26, height - 26), (objects, 2))
    boxes = np.concatenate([corners, corners + rng.integers(8, 26, (objects, 2))], 1)
    masks = np.zeros((objects, height, width), np.uint8)
    image, semantic = np.full((height, width, 3), 30, np.uint8), np.zeros((height, width), np.int32)
    for n, (x1, y1, x2, y2) in enumerate(boxes):
        masks[n, y1:y2, x1:x2] = 1
        image[y1:y2, x1:x2] = 60 + 40 * n
        semantic[y1:y2, x1:x2] = n + 1
    return {
        "image": image,
        "image_id": seed,
        "boxes": boxes.astype(np.float32),
        "classes": np.arange(1, objects + 1, dtype=np.int32),
        "crowd": np.zeros(objects, bool),
        "area": masks.sum((1, 2)).astype(np.float32),
        "masks": masks,
        "semantic": semantic,
    }


def frozen(example):
    """What a transform may not write into."""
    for value in example.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return example


@pytest.mark.parametrize("seed", range(8))
def test_zoom_out_lays_the_picture_on_the_mean_colour(seed):
    example, rng = frozen(scene(seed)), np.random.default_rng(seed)
    new = ZoomOut(1.5, 3.0, probability=1.0)(example, rng)
    height, width = new["image"].shape[:2]
    assert 60 <= height <= 120 and 90 <= width <= 180 and abs(width / height - 1.5) < 0.05
    assert new["masks"].shape == (3, height, width)
    offset = (new["boxes"] - example["boxes"])[0, :2].astype(int)
    np.testing.assert_array_equal(new["boxes"] - example["boxes"], np.tile(offset, (3, 2)))
    inside = np.zeros((height, width), bool)
    inside[offset[1] : offset[1] + 40, offset[0] : offset[0] + 60] = True
    assert inside.sum() == 40 * 60
    np.testing.assert_array_equal(new["image"][inside], example["image"].reshape(-1, 3))
    assert (new["image"][~inside] == MEAN_COLOUR).all() and (new["semantic"][~inside] == IGNORED).all()
    assert ZoomOut(probability=0.0)(example, rng).keys() == example.keys()


def iou(boxes, window):
    shared = (np.minimum(boxes[:, 2:], window[2:]) - np.maximum(boxes[:, :2], window[:2])).clip(0).prod(1)
    return shared / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + np.prod(window[2:] - window[:2]) - shared)


@pytest.mark.parametrize("least", [0.0, 0.1, 0.3])
def test_iou_crop_keeps_objects_whose_centre_is_inside(least):
    cropped = 0
    for seed in range(30):
        example = scene(seed)
        x, y = np.meshgrid(np.arange(60), np.arange(40))
        example["image"] = np.stack([x, y, 0 * x], -1).astype(np.uint8)
        new = IoUCrop(overlaps=(least, 1.0))(frozen(example), np.random.default_rng(seed))
        height, width = new["image"].shape[:2]
        corner = new["image"][0, 0, :2].astype(int)  # the picture's colours are its coordinates
        if (height, width) == (40, 60):
            continue
        cropped += 1
        assert height >= 12 and width >= 18 and 0.5 <= width / height <= 2
        window = np.concatenate([corner, corner + (width, height)])
        centres = (example["boxes"][:, :2] + example["boxes"][:, 2:]) / 2
        inside = ((centres > window[:2]) & (centres < window[2:])).all(1)
        assert inside.any() and iou(example["boxes"], window)[inside].max() >= least
        np.testing.assert_array_equal(new["classes"], example["classes"][inside])
        clipped = np.clip(example["boxes"][inside], np.tile(window[:2], 2), np.tile(window[2:], 2))
        np.testing.assert_array_equal(new["boxes"], clipped - np.tile(corner, 2))
    assert cropped > 5


def test_iou_crop_of_a_picture_without_objects_and_of_a_crowd_is_the_whole():
    nothing = {name: value[:0] for name, value in scene(0).items() if name in ("boxes", "classes", "crowd", "area")}
    for change in ({**nothing, "masks": np.zeros((0, 40, 60), np.uint8)}, {"crowd": np.ones(3, bool)}):
        example = {**scene(0), **change}
        new = IoUCrop()(example, np.random.default_rng(0))
        assert all(np.array_equal(new[name], example[name]) for name in example)


def test_distortion_changes_colours_alone():
    example = frozen(scene(0))
    seen = set()
    for seed in range(20):
        new = PhotometricDistort()(example, np.random.default_rng(seed))
        assert new["image"].shape == example["image"].shape and new["image"].dtype == np.uint8
        assert all(new[name] is example[name] for name in example if name != "image")
        seen.add(new["image"].tobytes())
    assert len(seen) > 10
    none = PhotometricDistort(probability=0.0)(example, np.random.default_rng(0))
    np.testing.assert_array_equal(none["image"], example["image"])
    dark = PhotometricDistort(contrast=0.0, saturation=0.0, hue=0.0, probability=1.0)
    factors = [
        dark(example, np.random.default_rng(seed))["image"].mean() / example["image"].mean() for seed in range(40)
    ]
    assert 0.86 < min(factors) < 0.93 and 1.07 < max(factors) < 1.14


class Drawn:
    """A generator of given amounts, for which every change happens in the one order."""

    def __init__(self, amounts, first):
        self.amounts, self.draws = list(amounts), [0.1 if first else 0.9]

    def random(self):
        return self.draws.pop() if self.draws else 0.0

    def uniform(self, low, high):
        amount = self.amounts.pop(0)
        assert low <= amount <= high
        return amount


@pytest.mark.parametrize("first", [True, False])
def test_distortion_as_caffe_has_it(first):
    """Brightness is added, contrast is a factor, saturation and hue are those of HSV; nothing else happens."""
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    amounts = {"contrast": 0.3, "saturation": -0.4, "hue": 0.07}
    order = ["contrast", "saturation", "hue"] if first else ["saturation", "hue", "contrast"]
    distort = PhotometricDistort(rule="caffe", hue=0.1, probability=1.0, shuffle=0.0)
    found = distort({"image": image}, Drawn([-0.1, *(amounts[name] for name in order)], first))["image"]
    for before, after in zip(image.reshape(-1, 3), found.reshape(-1, 3)):
        colour = np.clip(before / 255 - 0.1, 0, 1)
        for name in order:
            h, s, v = colorsys.rgb_to_hsv(*colour)
            if name == "contrast":
                colour = np.clip(np.array(colour) * 1.3, 0, 1)
            else:
                colour = colorsys.hsv_to_rgb(*((h, s * 0.6, v) if name == "saturation" else ((h + 0.07) % 1, s, v)))
        np.testing.assert_allclose(after, np.array(colour) * 255, atol=0.6)


def test_every_interpolation_is_drawn():
    example, found = frozen(scene(2)), []
    wanted = [cv2.resize(example["image"], (31, 57), interpolation=way).tobytes() for way in INTERPOLATIONS]
    assert len(set(wanted)) == 5
    for seed in range(40):
        new = RandomInterpolation(57, 31)(example, np.random.default_rng(seed))
        found.append(wanted.index(new["image"].tobytes()))
        np.testing.assert_allclose(new["boxes"], example["boxes"] * np.tile([31 / 60, 57 / 40], 2), rtol=1e-6)
        assert new["masks"].shape == (3, 57, 31) and set(np.unique(new["masks"])) <= {0, 1}
    assert set(found) == set(range(5))
    fitted = StretchToCanvas((57, 31))(new)
    assert fitted["image"] is new["image"]


def test_stretch_fills_the_canvas():
    example = frozen(scene(1))
    new = StretchToCanvas((80, 30))(example)
    assert new["image"].shape == (80, 30, 3) and new["masks"].shape == (3, 80, 30)
    np.testing.assert_allclose(new["boxes"], example["boxes"] * [0.5, 2, 0.5, 2])
    assert new["image_size"].tolist() == [80, 30] and new["original_size"].tolist() == [40, 60]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"zoom_out": {"low": 0.5}}, "zoom_out: expected 1 <= low <= high, got low 0.5"),
        ({"zoom_out": {"probability": 2}}, "zoom_out: probability is 2"),
        ({"iou_crop": {"low": 0}}, "iou_crop: expected 0 < low <= high <= 1"),
        ({"iou_crop": {"narrow": 3}}, "iou_crop: expected 0 < narrow <= wide"),
        ({"iou_crop": {"overlaps": (0.5,)}}, "a 1 is missing"),
        ({"photometric_distort": {"hue": 0.7}}, "photometric_distort: hue is 0.7"),
        ({"photometric_distort": {"rule": "coffee"}}, "rule 'coffee' is not one of torchvision, caffe"),
        ({"random_interpolation": {"height": 0, "width": 3}}, "expected a positive height and width, got 0 x 3"),
    ],
)
def test_arguments_that_cannot_be_meant(config, text):
    with pytest.raises(ValueError, match=text):
        build(config)


def test_the_recipe_is_a_pure_function_of_the_generator():
    transforms = build({"iou_crop": {}, "zoom_out": {}, "photometric_distort": {}, "flip": {}})
    assert [type(t) for t in transforms[:3]] == [PhotometricDistort, ZoomOut, IoUCrop]
    assert all(dataclasses.is_dataclass(t) for t in transforms)
    results = []
    for _ in range(2):
        example, rng = frozen(scene(3)), np.random.default_rng(5)
        for transform in transforms:
            example = transform(example, rng)
        results.append(example)
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])
