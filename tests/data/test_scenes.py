import collections
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from drawn import draw_many

from jaxvision.data import drawing, person, scenes
from jaxvision.data.canvas import Canvas


def objects_of(examples):
    return [entry for example in examples for entry in example["objects"]]


# What is drawn


def test_a_scene_is_a_pure_function_of_its_number(shapes):
    code = (
        "from jaxvision.data import scenes; import zlib; s = scenes.scene(scenes.CONFIGS['shapes'], 'train', 7);"
        "print(zlib.crc32(s['image'].tobytes()), zlib.crc32(s['instances'].tobytes()))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [int(value) for value in other] == [zlib.crc32(shapes[7][key].tobytes()) for key in ("image", "instances")]


def test_splits_and_configs_share_no_picture(shapes, held_out):
    pictures = shapes + held_out + draw_many("shapes", "test", 50) + draw_many("single", "train", 50)
    assert len({example["image"].tobytes() for example in pictures}) == len(pictures)


def test_boxes_areas_and_masks_agree(shapes):
    for example in shapes:
        assert example["image"].shape == (128, 128, 3) and example["image"].dtype == np.uint8
        instances = example["instances"][..., 0]
        assert 1 <= len(example["objects"]) <= 6 and instances.max() == len(example["objects"])
        for row, entry in enumerate(example["objects"]):
            y, x = np.nonzero(instances == row + 1)
            assert entry["box"].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
            assert entry["area"] == len(x) and entry["area"] <= entry["full_area"]
            assert len(x) >= 30 and len(x) >= 0.25 * entry["full_area"]


def test_objects_cover_each_other_in_order():
    """A second object hides what it covers of the first, and nothing hides the second."""
    hidden = 0
    for seed in range(40):
        _, (lower, upper) = drawing.paint(np.random.default_rng(seed), ["square", "circle"], drawing.Style())
        both = (lower.coverage >= 0.5) & (upper.coverage >= 0.5)
        assert not (lower.mask & upper.mask).any()
        assert np.array_equal(upper.mask, upper.coverage >= 0.5)
        assert not lower.mask[both].any()
        hidden += both.any()
    assert hidden > 10


def test_an_object_lies_where_its_mask_says():
    """Painting an object changes the picture within its coverage and nowhere else."""
    generator = np.random.default_rng(0)
    for name in scenes.SHAPES:
        before = drawing.ground(generator)
        picture = before.copy()
        thing = drawing._add(generator, picture, [], name, drawing.Style(), "train", crowd=False)
        changed = np.abs(picture - before).max(-1) > 1e-3
        assert not changed[thing.coverage == 0].any()
        assert changed[thing.mask].mean() > 0.95


def test_sizes_are_those_asked_for():
    for name in scenes.SHAPES + drawing.DIGITS:
        for seed in range(5):
            generator, size = np.random.default_rng(seed), 20 + 10 * seed
            ink = drawing.draw(generator, name, size, np.pi, "train", False)
            longest = np.hypot(*ink.layers.shape[:2])  # of the turned object's box
            assert 0.85 * size <= max(ink.layers.shape[:2]) and longest <= 2.1 * size
    square = Canvas(20)
    square.polygons([ring * 20 for ring in drawing.OUTLINES["square"]], Canvas.FILL)
    assert abs(square.resolve().layers[..., 0].sum() - 400) < 20


def test_a_quarter_of_the_objects_is_occluded(shapes):
    lost = np.array([1 - entry["area"] / entry["full_area"] for entry in objects_of(shapes)])
    assert (lost >= 0.2).mean() >= 0.25


def test_classes_are_balanced():
    for name in ("shapes", "full", "single"):
        config = scenes.CONFIGS[name]
        counts = collections.Counter(entry for number in range(4000) for entry in scenes.deal(config, "train", number))
        assert set(counts) == set(config.classes)
        assert max(counts.values()) <= 1.1 * min(counts.values())
    sizes = collections.Counter(len(scenes.deal(scenes.CONFIGS["shapes"], "train", number)) for number in range(600))
    assert sizes == dict.fromkeys(range(1, 7), 100)


def test_class_says_nothing_of_colour_size_and_place(shapes):
    objects = objects_of(shapes)
    classes = np.array([entry["class"] for entry in objects])
    centres = np.array([entry["box"][:2] + entry["box"][2:] for entry in objects]) / 2
    properties = {
        "colour": [entry["colour"] for entry in objects],
        "size": [entry["size"] for entry in objects],
        "column": (centres[:, 0] // 43).tolist(),
        "row": (centres[:, 1] // 43).tolist(),
    }
    for name, values in properties.items():
        codes, values = np.unique(values, return_inverse=True)
        table = np.zeros((6, len(codes)))
        np.add.at(table, (classes, values), 1)
        expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
        degrees = 5 * (len(codes) - 1)
        statistic = ((table - expected) ** 2 / expected).sum()
        assert statistic < degrees + 4 * np.sqrt(2 * degrees), name


def test_colour_words_are_true(shapes):
    """An object's commonest colour is, nearly always, closest to one of its word's tones."""
    right = total = 0
    for example in shapes[:100]:
        for row, entry in enumerate(example["objects"]):
            inside = example["image"][example["instances"][..., 0] == row + 1].astype(np.float32)
            distances = np.linalg.norm(inside[:, None] - drawing.PALETTE, axis=-1)
            named = list(drawing.COLOURS).index(entry["colour"])
            right += named in np.argsort(np.bincount(distances.argmin(1), minlength=12))[-3:]
            total += 1
    assert right >= 0.85 * total


def test_objects_stand_out(shapes):
    """Just within a mask's border the picture differs from just outside it."""
    clear = []
    for example in shapes[:100]:
        picture = cv2.GaussianBlur(example["image"], (0, 0), 1).astype(np.float32)
        for row in range(len(example["objects"])):
            mask = (example["instances"][..., 0] == row + 1).astype(np.uint8)
            ring = cv2.dilate(mask, np.ones((5, 5))) - cv2.dilate(mask, np.ones((3, 3)))
            core = cv2.erode(mask, np.ones((3, 3))) if cv2.erode(mask, np.ones((3, 3))).any() else mask
            clear.append(np.linalg.norm(picture[ring > 0].mean(0) - picture[core > 0].mean(0)) > 40)
    assert np.mean(clear) > 0.95


def test_captions_are_true(shapes):
    for example in shapes[:60]:
        objects = example["objects"]
        heads = []
        for entry in objects:
            noun = scenes.SHAPES[entry["class"]] + (" crowd" if entry["crowd"] else "")
            heads.append(f"a {entry['size']} {entry['colour']} {noun}")
        centres = [(entry["box"][:2] + entry["box"][2:]) / 2 for entry in objects]
        for row, entry in enumerate(objects):
            if len(objects) == 1:
                assert entry["caption"] == heads[row]
                continue
            assert entry["caption"].startswith(heads[row] + " ")
            rest = entry["caption"][len(heads[row]) + 1 :]
            axis, sign = next(
                place
                for word, place in {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}.items()
                if rest.startswith(word)
            )
            others = [i for i, head in enumerate(heads) if i != row and rest.endswith(head)]
            assert any(sign * (centres[i] - centres[row])[axis] >= 0 for i in others)


def test_crowds_are_one_region_of_many_pieces():
    examples = draw_many("shapes", "train", 400)
    crowds = [(example, row) for example in examples for row, e in enumerate(example["objects"]) if e["crowd"]]
    assert 2 <= len(crowds) <= 20 and len({example["image_id"] for example, _ in crowds}) == len(crowds)
    for example, row in crowds:
        assert not example["objects"][row]["joints"].any()
    for name in ("single", "people"):
        assert not any(entry["crowd"] for entry in objects_of(draw_many(name, "train", 100)))
    ink = drawing.draw(np.random.default_rng(0), "circle", 50, np.pi, "train", True)
    pieces, _ = cv2.connectedComponents((ink.layers[..., 0] - ink.layers[..., 2] > 0.5).astype(np.uint8))
    assert pieces - 1 >= 4


def test_digits_of_different_splits_come_from_different_samples():
    for digit in range(10):
        pools = [set(drawing.digit_samples(digit, split)) for split in scenes.SPLITS]
        assert all(len(pool) >= 15 for pool in pools)
        assert not (pools[0] & pools[1] or pools[0] & pools[2] or pools[1] & pools[2])


# People


def test_joints_lie_on_the_figure(people):
    for example in people:
        (entry,) = example["objects"]
        seen = entry["joints"][entry["joints"][:, 2] == 2]
        assert len(seen) >= 7
        thick = cv2.dilate((example["instances"][..., 0] == 1).astype(np.uint8), np.ones((3, 3)))
        column, row = seen[:, :2].astype(int).T
        assert thick[row, column].all()
        x1, y1, x2, y2 = entry["box"]
        assert (seen[:, 0] > x1 - 2).all() and (seen[:, 0] < x2 + 2).all()
        assert (seen[:, 1] > y1 - 2).all() and (seen[:, 1] < y2 + 2).all()


def test_joint_visibility():
    """2 in sight, 1 under another object, 0 with zero coordinates beyond the picture."""
    found = collections.Counter()
    for seed in range(30):
        _, (lower, upper) = drawing.paint(np.random.default_rng(seed), ["person", "square"], drawing.Style())
        for (x, y), keypoint in zip(lower.joints, lower.keypoints):
            if not (0 <= x < 128 and 0 <= y < 128):
                assert keypoint.tolist() == [0, 0, 0]
            else:
                covered = upper.coverage[int(y), int(x)] > 0.5
                assert keypoint[2] == 2 - covered and np.allclose(keypoint[:2], (x, y))
            found[int(keypoint[2])] += 1
        assert not upper.keypoints.any()
    assert all(found[visibility] for visibility in (0, 1, 2))


def test_figures_face_the_viewer(people):
    """With the head up, a figure's right shoulder is on the viewer's left; no lean here passes 45 degrees."""
    for entry in objects_of(people):
        right, left = entry["joints"][8], entry["joints"][9]
        if right[2] and left[2]:
            assert right[0] < left[0]


def test_seams_are_on_the_outer_side_under_a_mirror():
    """Mirror the ink, swap the joints: along each limb the trim is still on the side away from the body's middle."""
    sides = {mirrored: [] for mirrored in (False, True)}
    for seed in range(20):
        canvas = Canvas(90)
        joints = person.draw(canvas, np.random.default_rng(seed), 150, 0.0)
        ink = canvas.resolve(joints)
        trim, joints = ink.layers[..., 1], joints - ink.corner
        for mirrored in (False, True):
            if mirrored:
                trim, joints = trim[:, ::-1], joints * (-1, 1) + (trim.shape[1], 0)
                swap = np.arange(14)
                for a, b in person.FLIP_PAIRS:
                    swap[[a, b]] = b, a
                joints = joints[swap]
            for start, stop, side in ((8, 7, -1), (7, 6, -1), (9, 10, 1), (10, 11, 1), (2, 1, -1), (3, 4, 1)):
                along = joints[stop] - joints[start]
                along /= np.linalg.norm(along)
                outward = side * np.array([along[1], -along[0]])
                middle = (joints[start] + joints[stop]) / 2
                outer, inner = ((middle + shift * outward).astype(int) for shift in (4, -4))
                sides[mirrored].append(trim[outer[1], outer[0]] - trim[inner[1], inner[0]])
    for values in sides.values():
        assert np.mean(np.array(values) > 0.5) > 0.8  # elsewhere another limb or the head lies above


def test_joint_tables():
    assert len(person.JOINTS) == len(person.SIGMAS) == 14
    for a, b in person.FLIP_PAIRS:
        assert {person.JOINTS[a], person.JOINTS[b]} == {
            side + person.JOINTS[a].partition("_")[2] for side in ("right_", "left_")
        }
        assert person.SIGMAS[a] == person.SIGMAS[b]
    by_name = {name.rpartition("_")[2]: sigma for name, sigma in zip(person.JOINTS, person.SIGMAS)}
    expected = {"shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107, "knee": 0.087, "ankle": 0.089}
    assert by_name == pytest.approx(expected | {"top": 0.079, "neck": 0.079})
