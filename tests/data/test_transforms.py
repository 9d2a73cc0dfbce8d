import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.data.affine import Affine
from jaxvision.data.elastic import Elastic
from jaxvision.data.geometry import IGNORED, MEAN_COLOUR, fit, tight_boxes
from jaxvision.data.resized_crop import RandomResizedCrop
from jaxvision.data.ssd_transforms import PhotometricDistort, RandomInterpolation
from jaxvision.data.transforms import (
    TRANSFORMS,
    ColorJitter,
    Crop,
    Flip,
    PermuteChannels,
    QuarterTurn,
    RandomScale,
    ResizeToCanvas,
    ScaleJitter,
    build,
)
from jaxvision.data.yolo_transforms import HsvJitter, WindowJitter


class Fixed:
    """A generator whose draws are given, in order."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def _next(self, *_, **__):
        return self.draws.pop(0)

    random = uniform = integers = permutation = _next


def scene(seed, height=12, width=17, objects=3, joints=3):
    """An example of rectangles whose boxes are those of their masks, with joints on a grid of eighths."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((objects, height, width), np.uint8)
    for mask in masks:
        y, x = rng.integers(0, height - 3), rng.integers(0, width - 3)
        mask[y : y + rng.integers(1, 4), x : x + rng.integers(1, 4)] = 1
    keypoints = np.zeros((objects, joints, 3), np.float32)
    keypoints[..., 0] = rng.integers(0, width * 8, (objects, joints)) / 8
    keypoints[..., 1] = rng.integers(0, height * 8, (objects, joints)) / 8
    keypoints[..., 2] = rng.integers(0, 3, (objects, joints))
    keypoints *= keypoints[..., 2:] > 0
    semantic = np.zeros((height, width), np.int32)
    for n, mask in enumerate(masks):
        semantic[mask > 0] = n + 1
    return {
        "image": rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
        "image_id": seed,
        "file": "scene.png",
        "boxes": tight_boxes(masks),
        "classes": np.arange(1, objects + 1, dtype=np.int32),
        "crowd": np.zeros(objects, bool),
        "area": masks.sum((1, 2)).astype(np.float32),
        "masks": masks,
        "keypoints": keypoints,
        "semantic": semantic,
        "semantic_labels": semantic[..., None] == np.arange(5),
        "captions": [f"object {n}" for n in range(objects)],
    }


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
        if isinstance(a[name], np.ndarray):
            assert a[name].dtype == b[name].dtype, name


ALL = [
    Flip(1.0, ((0, 1),)),
    QuarterTurn(),
    ScaleJitter(0.3, 0.9),
    ScaleJitter(1.2, 2.5),
    RandomScale(),
    RandomScale(0.7, 1.4, 0),
    Elastic(2.0),
    Affine(30, 0.2, (0.7, 1.5), 20),
    RandomResizedCrop(9, 14),
    Crop(6, 6),
    Crop(20, 8),
    ColorJitter(0.5, 0.5, 0.5, 0.2),
    PhotometricDistort(rule="caffe", hue=0.1, shuffle=0.0),
    RandomInterpolation(9, 20),
    WindowJitter(0.4),
    HsvJitter(),
    PermuteChannels(),
    ResizeToCanvas((30, 20)),
    ResizeToCanvas((9, 16)),
]


@pytest.mark.parametrize("transform", ALL, ids=repr)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_transform_keeps_its_hands_off_the_input_and_its_dtypes(transform, seed):
    example = scene(seed, objects=seed % 4)
    before = copy.deepcopy(example)
    after = transform(example, np.random.default_rng(seed))
    assert_same(example, before)
    for name, value in before.items():
        if isinstance(value, np.ndarray):
            assert after[name].dtype == value.dtype and after[name].ndim == value.ndim, name
    size = after["image"].shape[:2]
    assert after["semantic"].shape == size and after["masks"].shape[1:] == size
    np.testing.assert_array_equal(after["semantic_labels"], after["semantic"][..., None] == np.arange(5))
    counts = {len(after[name]) for name in ("boxes", "classes", "crowd", "area", "masks", "keypoints", "captions")}
    assert len(counts) == 1
    again = transform(example, np.random.default_rng(seed))
    assert_same(after, again)


def test_transforms_are_picklable_and_take_bare_images():
    image = {"image": scene(0)["image"], "label": 3}
    for transform in ALL:
        assert pickle.loads(pickle.dumps(transform)) == transform
        assert transform(image, np.random.default_rng(0))["label"] == 3


def test_flip_by_hand():
    example = {
        "image": np.arange(12, dtype=np.uint8).reshape(1, 4, 3),
        "boxes": np.array([[0, 0, 1, 1], [1.5, 0, 4, 1]], np.float32),
        "proposals": np.array([[0, 0, 3, 1]], np.float32),
        "keypoints": np.array([[[1, 0.5, 2], [3.5, 0.25, 1], [0, 0, 0]]], np.float32).repeat(2, 0),
        "semantic": np.array([[1, 2, 3, 255]], np.int32),
        "semantic_labels": np.array([[[1, 0], [0, 0], [1, 1], [0, 1]]], bool),
        "masks": np.array([[[1, 0, 0, 0]], [[0, 1, 1, 1]]], np.uint8),
    }
    flipped = Flip(1.0, ((0, 1),))(example, np.random.default_rng(0))
    assert flipped["image"][0, :, 0].tolist() == [9, 6, 3, 0]
    assert flipped["image"][0, 0].tolist() == [9, 10, 11]
    assert flipped["boxes"].tolist() == [[3, 0, 4, 1], [0, 0, 2.5, 1]]
    assert flipped["proposals"].tolist() == [[1, 0, 4, 1]]
    assert flipped["keypoints"][0].tolist() == [[0.5, 0.25, 1], [3, 0.5, 2], [0, 0, 0]]
    assert flipped["semantic"].tolist() == [[255, 3, 2, 1]]
    assert flipped["semantic_labels"].tolist() == [[[0, 1], [1, 1], [0, 0], [1, 0]]]
    assert flipped["masks"][0].tolist() == [[0, 0, 0, 1]]


def test_flip_probability():
    rng, example = np.random.default_rng(0), scene(1)
    flips = [(Flip(0.25)(example, rng)["image"] != example["image"]).any() for _ in range(400)]
    assert 70 < sum(flips) < 130
    assert_same(Flip(0.0)(example, rng), example)


def test_turn_by_hand():
    example = {
        "image": np.zeros((2, 3, 3), np.uint8),
        "boxes": np.array([[0, 0, 1, 2]], np.float32),
        "keypoints": np.array([[[0.5, 2, 2]]], np.float32),
        "semantic": np.array([[1, 2, 3], [4, 5, 6]], np.int32),
    }
    turned = QuarterTurn()(example, Fixed(1))
    assert turned["semantic"].tolist() == [[3, 6], [2, 5], [1, 4]]
    assert turned["boxes"].tolist() == [[0, 2, 2, 3]]  # the left column is now the bottom row
    assert turned["keypoints"].tolist() == [[[2, 2.5, 2]]]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_two_flips_and_four_turns_change_nothing(seed):
    example, rng = scene(seed), np.random.default_rng(0)
    flip = Flip(1.0, ((0, 1),))
    assert_same(flip(flip(example, rng), rng), example)
    turned = example
    for _ in range(4):
        turned = QuarterTurn()(turned, Fixed(1))
    assert_same(turned, example)
    assert_same(QuarterTurn()(example, Fixed(3)), QuarterTurn()(QuarterTurn()(example, Fixed(1)), Fixed(2)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), turns=st.integers(0, 3), flip=st.booleans())
def test_boxes_stay_those_of_the_masks_and_joints_on_their_pixels(seed, turns, flip):
    example = scene(seed)
    # A joint at the centre of a pixel of its own value must find that pixel again.
    ys, xs = np.random.default_rng(seed).integers(0, (12, 17), (3, 2)).T
    example["keypoints"] = np.stack([xs + 0.5, ys + 0.5, np.full(3, 2)], -1).astype(np.float32)[:, None]
    moved = Flip(float(flip))(QuarterTurn()(example, Fixed(turns)), np.random.default_rng(0))
    np.testing.assert_array_equal(moved["boxes"], tight_boxes(moved["masks"]))
    x, y = np.floor(moved["keypoints"][:, 0, :2]).astype(int).T
    np.testing.assert_array_equal(moved["image"][y, x], example["image"][ys, xs])


def test_crop_by_hand():
    example = scene(0, height=8, width=8, objects=4)
    masks = np.zeros((4, 8, 8), np.uint8)
    masks[0, 3:5, 3:5] = 1  # wholly inside
    masks[1, 0:4, 0:4] = 1  # cut: a box clip would say 2..4, and so does the mask
    masks[2, 0:8, 0:3] = 1
    masks[2, 2:6, 2] = 0  # cut: its box still meets the window, its mask does not
    masks[3, 7, 7] = 1  # gone
    example |= {"masks": masks, "boxes": tight_boxes(masks), "area": np.array([8, 32, 5, 1], np.float32)}
    example["boxes"][0] += 0.25  # an annotation finer than its mask is kept where nothing is cut
    example["keypoints"] = np.array([[[2, 2, 2], [6, 6, 1], [6.5, 3, 2]]], np.float32).repeat(4, 0)
    cut = Crop(4, 4)(example, Fixed(2, 2))
    assert cut["boxes"].tolist() == [[1.25, 1.25, 3.25, 3.25], [0, 0, 2, 2]]
    assert cut["classes"].tolist() == [1, 2] and cut["captions"] == ["object 0", "object 1"]
    assert cut["area"].tolist() == [8, 8]  # a quarter of 32 is left
    assert cut["keypoints"][0].tolist() == [[0, 0, 2], [4, 4, 1], [0, 0, 0]]
    np.testing.assert_array_equal(cut["image"], example["image"][2:6, 2:6])
    np.testing.assert_array_equal(cut["semantic"], example["semantic"][2:6, 2:6])


def test_crop_without_masks_clips():
    example = {
        "image": np.zeros((10, 10, 3), np.uint8),
        "boxes": np.array([[0, 0, 4, 4], [4.5, 4.5, 5, 5], [0, 0, 2.5, 9], [8, 8, 9, 9]], np.float32),
        "proposals": np.array([[0, 0, 10, 10], [0, 0, 1, 1]], np.float32),
        "area": np.array([16, 0.25, 20, 1], np.float32),
    }
    cut = Crop(4, 4)(example, Fixed(2, 2))
    # The second is small but whole; the third shows half a pixel of width; the last is gone.
    assert cut["boxes"].tolist() == [[0, 0, 2, 2], [2.5, 2.5, 3, 3]]
    assert cut["area"].tolist() == [4, 0.25]
    assert cut["proposals"].tolist() == [[0, 0, 4, 4]]


def test_crop_widens_a_smaller_picture():
    example = scene(3, height=4, width=5, objects=1)
    wide = Crop(6, 9)(example, Fixed(-2, -1))
    assert wide["image"].shape == (6, 9, 3)
    np.testing.assert_array_equal(wide["image"][2:6, 1:6], example["image"])
    assert (wide["image"][:2] == MEAN_COLOUR).all() and (wide["image"][:, 6:] == MEAN_COLOUR).all()
    padding = np.ones((6, 9), bool)
    padding[2:6, 1:6] = False
    np.testing.assert_array_equal(wide["semantic"] == IGNORED, padding)
    np.testing.assert_array_equal(wide["boxes"], example["boxes"] + [1, 2, 1, 2])
    np.testing.assert_array_equal(wide["boxes"], tight_boxes(wide["masks"]))
    assert wide["area"] == example["area"]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), low=st.sampled_from([0.3, 0.8, 1.1, 1.7]))
def test_scale_jitter_keeps_size_and_ignores_only_padding(seed, low):
    example = scene(seed, height=16, width=24)
    jittered = ScaleJitter(low, low + 0.3)(example, np.random.default_rng(seed))
    assert jittered["image"].shape == example["image"].shape
    padding = (jittered["semantic"] == IGNORED).sum()
    if low == 0.3:
        assert padding >= 16 * 24 - 10 * 14  # at most 0.6 of each side is picture
    if low > 1:
        assert padding == 0
    boxes = jittered["boxes"]
    assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all() and (boxes <= [24, 16, 24, 16]).all()
    assert jittered["masks"].any(axis=(1, 2)).all()
    assert np.abs(boxes - tight_boxes(jittered["masks"])).max(initial=0) <= 1


def test_scale_jitter_by_hand():
    example = scene(5, height=8, width=8, objects=1)
    example["masks"][:] = 0
    example["masks"][0, 2:4, 2:6] = 1
    example |= {"boxes": tight_boxes(example["masks"]), "area": np.array([8], np.float32)}
    half = ScaleJitter(0.5, 0.5)(example, Fixed(0.5, -3, -1))
    assert half["boxes"].tolist() == [[2, 4, 4, 5]] and half["area"].tolist() == [2]
    assert half["masks"].sum() == 2 and half["masks"][0, 4, 2:4].all()
    assert (half["semantic"] != IGNORED).sum() == 16 and (half["semantic"][3:7, 1:5] != IGNORED).all()
    double = ScaleJitter(2, 2)(example, Fixed(2.0, 5, 0))
    assert double["boxes"].tolist() == [[4, 0, 8, 3]]  # 4..12 x 4..8, cut at 8 and 5
    assert double["area"].tolist() == [12]


def test_random_scale_takes_every_step_and_no_other():
    example, rng = scene(4, height=8, width=12), np.random.default_rng(0)
    scaled = [RandomScale()(example, rng) for _ in range(80)]
    heights = {s["image"].shape[0] for s in scaled}
    assert heights == {4, 6, 8, 10, 12, 14, 16}  # 0.5, 0.75, ... 2
    assert all(s["image"].shape[:2] == s["semantic"].shape == s["masks"].shape[1:] for s in scaled)
    double = next(s for s in scaled if s["image"].shape[0] == 16)
    assert double["image"].shape == (16, 24, 3)
    np.testing.assert_array_equal(double["semantic"], example["semantic"].repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(double["boxes"], example["boxes"] * 2)
    same = next(s for s in scaled if s["image"].shape[0] == 8)
    assert_same(same, example)
    smooth = {RandomScale(0.5, 2, 0)(scene(4, height=100), rng)["image"].shape[0] for _ in range(20)}
    assert len(smooth) > 10 and min(smooth) >= 50 and max(smooth) <= 200
    np.testing.assert_array_equal(RandomScale(1, 1)(example, rng)["image"], example["image"])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_deeplabs_augmentation_of_an_example_without_objects(seed):
    """Scale, crop, flip and colour, from a config in any order: of one size, its padding ignored, colours apart from maps."""
    example = {name: scene(seed)[name] for name in ("image", "image_id", "semantic")}
    geometry = {"flip": {}, "crop": {"height": 16, "width": 16}, "random_scale": {}}
    colour = {"photometric_distort": {}, "color_jitter": {"brightness": 0.5, "hue": 0.1}}
    steps = build({**colour, **geometry})
    names = [type(step).__name__ for step in steps]
    assert names == ["PhotometricDistort", "RandomScale", "Crop", "Flip", "ColorJitter"]
    for step in steps:
        before, example = example, step(example, np.random.default_rng(seed))
        assert example.keys() == before.keys() and example["image"].dtype == np.uint8
        if "Photo" in type(step).__name__ or "Color" in type(step).__name__:
            np.testing.assert_array_equal(example["semantic"], before["semantic"])
    assert example["image"].shape == (16, 16, 3) and example["semantic"].shape == (16, 16)
    assert set(np.unique(example["semantic"])) <= {0, 1, 2, 3, IGNORED}


def slow_bilinear(image, height, width):
    """Half-pixel centres, edges repeated, no antialiasing."""
    old_height, old_width, channels = image.shape
    result = np.zeros((height, width, channels))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * old_height / height - 0.5, 0), old_height - 1)
            x = min(max((j + 0.5) * old_width / width - 0.5, 0), old_width - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, old_height - 1), min(x0 + 1, old_width - 1)
            top = image[y0, x0] * (1 - x + x0) + image[y0, x1] * (x - x0)
            bottom = image[y1, x0] * (1 - x + x0) + image[y1, x1] * (x - x0)
            result[i, j] = top * (1 - y + y0) + bottom * (y - y0)
    return result


@pytest.mark.parametrize("canvas", [(30, 20), (9, 16), (6, 40), (12, 30)])
def test_canvas_resizes_and_pads(canvas):
    example = scene(7)
    placed = ResizeToCanvas(canvas)(example)
    height, width = placed["image_size"]
    assert placed["image"].shape == (*canvas, 3)
    assert placed["original_size"].tolist() == [12, 17] and placed["image_size"].dtype == np.int32
    expected = slow_bilinear(example["image"].astype(float), height, width)
    assert np.abs(placed["image"][:height, :width] - expected).max() <= 1
    exact = ResizeToCanvas(canvas)({"image": example["image"].astype(np.float32) / 255})["image"]
    assert exact.dtype == np.float32 and np.abs(exact[:height, :width] - expected / 255).max() < 1e-5
    assert not placed["image"][height:].any() and not placed["image"][:, width:].any()
    padding = np.ones(canvas, bool)
    padding[:height, :width] = False
    np.testing.assert_array_equal(placed["semantic"] == IGNORED, padding)
    assert not placed["masks"][:, padding].any()
    ratio = np.array([width / 17, height / 12])
    np.testing.assert_allclose(placed["boxes"], example["boxes"] * np.tile(ratio, 2), rtol=1e-6)
    np.testing.assert_allclose(placed["keypoints"][..., :2], example["keypoints"][..., :2] * ratio, rtol=1e-6)
    np.testing.assert_allclose(placed["area"], example["area"] * ratio.prod(), rtol=1e-6)
    shown = placed["masks"].any(axis=(1, 2))  # one of a pixel may vanish, its box does not
    assert np.abs(placed["boxes"] - tight_boxes(placed["masks"]))[shown].max() <= 1


def test_a_picture_that_fits_stays_bit_for_bit():
    example = scene(8)
    placed = ResizeToCanvas((12, 17))(example)
    assert_same({name: placed[name] for name in example}, example)
    placed = ResizeToCanvas((20, 17))(example)
    np.testing.assert_array_equal(placed["image"][:12], example["image"])
    np.testing.assert_array_equal(placed["boxes"], example["boxes"])


@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    canvas=st.tuples(st.integers(1, 1500), st.integers(1, 1500)),
)
def test_fit_touches_the_canvas_and_never_exceeds_it(size, canvas):
    height, width = fit(size, canvas)
    assert 1 <= height <= canvas[0] and 1 <= width <= canvas[1]
    assert height == canvas[0] or width == canvas[1]
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    # floor of the real product; floats may fall just short of a whole number
    assert height == max(1, int(np.floor(size[0] * scale + 1e-9)))
    assert width == max(1, int(np.floor(size[1] * scale + 1e-9)))


def test_masks_have_no_drift_when_scaled():
    """Nearest by pixel centres treats left and right, top and bottom alike: mirrored before or after is the same."""
    example = scene(2, height=6, width=6, objects=1)
    example["semantic"] = np.arange(36, dtype=np.int32).reshape(6, 6)
    placed = ResizeToCanvas((10, 10))
    straight = placed(example)["semantic"]
    for mirror in (np.fliplr, np.flipud):
        np.testing.assert_array_equal(
            placed(example | {"semantic": mirror(example["semantic"])})["semantic"], mirror(straight)
        )
    assert straight[0].tolist() == [0, 0, 1, 2, 2, 3, 3, 4, 5, 5]


def test_color_jitter_by_hand():
    image = np.array([[[200, 100, 50], [10, 20, 30]]], np.uint8)
    example = {"image": image}
    brighter = ColorJitter(brightness=0.5)(example, Fixed(np.array([0.5, 0, 0, 0]), [0, 1, 2, 3]))["image"]
    np.testing.assert_array_equal(brighter, [[[250, 125, 62], [12, 25, 38]]])
    grey = ColorJitter(saturation=1)(example, Fixed(np.array([0, 0, -1.0, 0]), [0, 1, 2, 3]))["image"]
    luma = np.rint(image @ [0.299, 0.587, 0.114])
    assert np.abs(grey - luma[..., None]).max() <= 1
    flat = ColorJitter(contrast=1)(example, Fixed(np.array([0, -1.0, 0, 0]), [0, 1, 2, 3]))["image"]
    assert np.abs(flat - luma.mean()).max() <= 1
    third = ColorJitter(hue=0.5)(example, Fixed(np.array([0, 0, 0, 2 / 3]), [0, 1, 2, 3]))["image"]
    np.testing.assert_array_equal(third, image[..., [2, 0, 1]])  # a third of the circle: red becomes green


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_colour_never_moves_anything(seed):
    example, rng = scene(seed), np.random.default_rng(seed)
    for transform in (ColorJitter(0.9, 0.9, 0.9, 0.5), PermuteChannels()):
        changed = transform(example, rng)
        assert_same({**changed, "image": None}, {**example, "image": None})
    assert_same(ColorJitter()(example, rng), example)
    np.testing.assert_array_equal(np.sort(changed["image"], -1), np.sort(example["image"], -1))


def test_build_runs_in_the_order_of_the_table():
    config = {"permute_channels": {}, "flip": {"probability": 0.1}, "scale_jitter": {"low": 0.5, "high": 2.0}}
    assert build(config, flip_pairs=[[0, 1]]) == [ScaleJitter(0.5, 2.0), Flip(0.1, ((0, 1),)), PermuteChannels()]
    ssd = ["photometric_distort", "zoom_out", "iou_crop", "random_interpolation", "window_jitter"]
    usual = [
        "scale_jitter",
        "object_crop",
        "random_scale",
        "elastic",
        "affine",
        "random_resized_crop",
        "crop",
        "flip",
        "quarter_turn",
        "copy_paste",
        "color_jitter",
        "hsv_jitter",
    ]
    assert list(TRANSFORMS) == ssd + usual + ["permute_channels", "border_weights", "mix_up"]
    assert build({}) == []


@pytest.mark.parametrize(
    "config, message",
    [
        ({"flp": {}}, 'did you mean "flip"'),
        ({"flip": {"probabilty": 1}}, 'did you mean "probability"'),
        ({"crop": {"height": 3}}, "width"),
        ({"flip": {"probability": 2}}, "0..1"),
        ({"scale_jitter": {"low": 2, "high": 1}}, "low <= high"),
        ({"color_jitter": {"hue": 1}}, "hue is 1"),
        ({"random_scale": {"low": 2, "high": 1}}, "low <= high"),
        ({"random_scale": {"low": 0.5, "high": 2, "step": 0.4}}, "steps of 0.4 do not lead from 0.5 to 2"),
        ({"random_scale": {"step": -0.25}}, "steps of -0.25"),
        ({"elastic": {"sigma": -1}}, "sigma >= 0"),
        ({"elastic": {"grid": 0}}, "grid >= 1"),
        ({"border_weights": {"sigma": 0}}, "sigma > 0"),
        ({"border_weights": {"w": 1}}, "argument of border_weights"),
        ({"quarter_turn": {"k": 1}}, "argument of quarter_turn"),
    ],
)
def test_build_names_what_is_wrong(config, message):
    with pytest.raises(ValueError, match=message):
        build(config)
