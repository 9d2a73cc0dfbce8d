import collections
import multiprocessing
import pickle
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.tree import DecisionTreeClassifier

from jaxvision.data import drawing, person, scenes
from jaxvision.data.canvas import Canvas

TINY = {"train": 24, "validation": 8, "test": 8}


def draw_many(name, split, count):
    return [scenes.scene(scenes.CONFIGS[name], split, number) for number in range(count)]


@pytest.fixture(scope="module")
def shapes():
    return draw_many("shapes", "train", 300)


@pytest.fixture(scope="module")
def held_out():
    return draw_many("shapes", "validation", 100)


@pytest.fixture(scope="module")
def people():
    return draw_many("people", "train", 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tiny prepared sets of two configs."""
    path = str(tmp_path_factory.mktemp("tfds"))
    for name in ("shapes", "single"):
        scenes.prepare(name, path, TINY)
    return path


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


# The task is not trivial


def test_colour_alone_does_not_segment(shapes, held_out):
    """A tree on the colour of a pixel stays far below what a small network reaches in minutes (mean IU 0.55)."""

    def pixels(examples, step):
        colours = np.stack([example["image"][::step, ::step] for example in examples]).reshape(-1, 3)
        return colours, np.concatenate([semantic(example)[::step, ::step].ravel() for example in examples])

    tree = DecisionTreeClassifier(max_leaf_nodes=4000, class_weight="balanced", random_state=0)
    plain = DecisionTreeClassifier(max_leaf_nodes=4000, random_state=0)
    for classifier in (tree, plain):
        classifier.fit(*pixels(shapes, 4))
        colours, truth = pixels(held_out, 2)
        counts = np.bincount(7 * truth + classifier.predict(colours), minlength=49).reshape(7, 7)
        union = counts.sum(0) + counts.sum(1) - np.diag(counts)
        assert np.mean(np.diag(counts) / union) < 0.25


def semantic(example):
    classes = np.array([0] + [entry["class"] + 1 for entry in example["objects"]])
    return classes[example["instances"][..., 0]]


def test_connected_colours_do_not_detect(shapes, held_out):
    """Regions of one quantised colour, classed by nearest mean of simple shape statistics, reach hardly any box AP."""
    features, classes = [], []
    for example in shapes[:200]:
        for box, described in components(example["image"]):
            overlaps = [box_iou(box, entry["box"]) for entry in example["objects"]]
            if max(overlaps) > 0.5:
                features.append(described)
                classes.append(example["objects"][int(np.argmax(overlaps))]["class"])
    classes = np.array(classes)
    means = np.stack([np.mean(np.array(features)[classes == label], 0) for label in range(6)])
    truth = {"images": [], "annotations": [], "categories": [{"id": label} for label in range(6)], "info": {}}
    found = []
    for example in held_out:
        image = example["image_id"]
        truth["images"].append({"id": image, "width": 128, "height": 128})
        for entry in example["objects"]:
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image,
                    "category_id": entry["class"],
                    "bbox": as_xywh(entry["box"]),
                    "area": entry["area"],
                    "iscrowd": int(entry["crowd"]),
                }
            )
        for box, described in components(example["image"]):
            label = int(np.linalg.norm(means - described, axis=1).argmin())
            found.append({"image_id": image, "category_id": label, "bbox": as_xywh(box), "score": described[0]})
    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 0 < evaluation.stats[0] < 0.10


def components(image):
    """Boxes and statistics of the regions of one quantised colour, 8 to 80 pixels wide and high."""
    codes = (cv2.medianBlur(image, 5) // 64).astype(np.int32) @ (1, 4, 16)
    for code in np.unique(codes):
        count, _, stats, _ = cv2.connectedComponentsWithStats((codes == code).astype(np.uint8))
        for x, y, width, height, area in stats[1:count]:
            if 8 <= width <= 80 and 8 <= height <= 80 and area > 40:
                fill, aspect = area / (width * height), min(width, height) / max(width, height)
                yield np.array([x, y, x + width, y + height], np.float32), np.array([fill, aspect])


def as_xywh(box):
    return [float(value) for value in (box[0], box[1], box[2] - box[0], box[3] - box[1])]


def box_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


# What is stored and read


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
        assert "label" not in example

        annotations = source.annotations(number)
        assert set(annotations) == set(example) - {"image"}
        assert all(np.array_equal(annotations[key], example[key]) for key in annotations)


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
