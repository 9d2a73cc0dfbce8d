import pickle

import numpy as np
import pytest
from numpy.lib.recfunctions import repack_fields
from scipy.io import savemat

from jaxvision.data import person
from jaxvision.data.images import ImageError, read_image, write_image
from jaxvision.data.loader import Batches
from jaxvision.data.pose_sets import FLIC_JOINTS
from jaxvision.data.sources import Source, open_source
from jaxvision.data.validation import ExampleError, check_one_person
from jaxvision.tasks import get

SIZE = (90, 120)  # height, width


def picture(number):
    rng = np.random.default_rng(number)
    return (np.linspace(0, 200, 90 * 120 * 3).reshape(*SIZE, 3) + rng.integers(0, 50)).astype(np.uint8)


def write_images(folder, names):
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        write_image(folder / name, picture(number))


@pytest.fixture
def leeds(tmp_path):
    """Six pictures, joints (3, 14, 6): x, y, and 1 for what is hidden."""
    rng = np.random.default_rng(0)
    joints = np.stack([rng.uniform(1, 119, (14, 6)), rng.uniform(1, 89, (14, 6)), rng.random((14, 6)) < 0.3])
    root = tmp_path / "lsp_dataset"
    write_images(root / "images", [f"im{n:04d}.jpg" for n in range(1, 7)])
    savemat(root / "joints.mat", {"joints": joints})
    return root, joints


@pytest.fixture
def extended(tmp_path):
    """Three pictures, joints (14, 3, 3): x, y, and 1 for what can be seen; the others lie anywhere."""
    rng = np.random.default_rng(1)
    joints = np.stack([rng.uniform(1, 119, (14, 3)), rng.uniform(1, 89, (14, 3)), rng.random((14, 3)) < 0.7], axis=1)
    joints[2, :, 0] = -31.5, 700, 0
    root = tmp_path / "lspet_dataset"
    write_images(root / "images", [f"im{n:05d}.jpg" for n in range(1, 4)])
    savemat(root / "joints.mat", {"joints": joints})
    return root, joints


def test_leeds_reads_as_it_was_written(leeds):
    root, joints = leeds
    for split, first in (("train", 0), ("test", 3)):
        source = pickle.loads(pickle.dumps(open_source(f"lsp:{root}", split)))
        assert isinstance(source, Source) and len(source) == 3 and source.class_names == ("background", "person")
        assert source.keypoint_names[0] == "right_ankle" and source.keypoint_names[13] == "head_top"
        assert source.flip_pairs == person.FLIP_PAIRS == ((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9))
        for i in range(3):
            example = source[i]
            assert example["file"].endswith(f"images/im{first + i + 1:04d}.jpg") and example["image_id"] == i
            np.testing.assert_array_equal(example["image"], read_image(example["file"]))
            for j in range(14):
                x, y, hidden = joints[:, j, first + i]
                np.testing.assert_allclose(example["keypoints"][0, j], (x, y, 1 if hidden else 2), rtol=1e-6)
            x, y = joints[0, :, first + i], joints[1, :, first + i]
            np.testing.assert_allclose(example["boxes"], [[x.min(), y.min(), x.max(), y.max()]], rtol=1e-6)
            assert example["classes"].tolist() == [1] and example["keypoints"].shape == (1, 14, 3)
            check_one_person(example)
    assert len(open_source(f"lsp:{root}:all")) == 6


def test_the_extension_is_for_training_and_what_is_not_seen_is_not_labelled(extended):
    root, joints = extended
    source = open_source(f"lsp:{root}", "train")
    assert len(source) == 3 and source[2]["file"].endswith("images/im00003.jpg")
    for i in range(3):
        example = source[i]
        seen = joints[:, 2, i] > 0
        np.testing.assert_allclose(example["keypoints"][0, seen, :2], joints[seen, :2, i], rtol=1e-6)
        assert (example["keypoints"][0, seen, 2] == 2).all() and (example["keypoints"][0, ~seen] == 0).all()
        assert (example["boxes"] >= 0).all() and (example["boxes"] <= [120, 90, 120, 90]).all()
    with pytest.raises(ValueError, match=r"no split 'test' of .*lspet_dataset; there are: train, all"):
        open_source(f"lsp:{root}", "test")


def test_both_together(leeds, extended):
    above = leeds[0].parent
    source = open_source("lsp", "lsp_dataset/train+lspet_dataset/train", str(above))
    assert len(source) == 6 and source.joints.shape == (6, 14, 3)
    named = open_source(f"lsp:{above}", "lsp_dataset/train+lspet_dataset/train")
    assert named.files == source.files and source.files[3].name == "im00001.jpg"


def test_joints_mirror_with_their_pictures(leeds):
    """Left and right change places: the batch of a mirrored picture, joint by joint."""
    root, joints = leeds
    source = open_source(f"lsp:{root}", "all")
    batches = Batches(
        source,
        batch_size=6,
        fields=get("pose").fields,
        canvases=[SIZE],
        seed=0,
        max_boxes=1,
        transforms_config={"flip": {"probability": 1.0}},
    )
    batch = batches[0]
    partner = dict(person.FLIP_PAIRS) | {b: a for a, b in person.FLIP_PAIRS}
    for i, number in enumerate(batch["image_id"]):
        np.testing.assert_array_equal(batch["image"][i], source[number]["image"][:, ::-1])
        for j in range(14):
            x, y, hidden = joints[:, partner.get(j, j), number]
            np.testing.assert_allclose(batch["keypoints"][i, 0, j], (120 - x, y, 1 if hidden else 2), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 13, 6), (13, 3, 6), (3, 14), (2, 14, 6)])
def test_thirteen_joints_are_named(leeds, shape):
    root = leeds[0]
    savemat(root / "joints.mat", {"joints": np.ones(shape)})
    message = r"joints\.mat: joints have shape \({}.*\(3, 14, N\), .*\(14, 3, N\).* from images/im0001\.jpg on"
    with pytest.raises(ValueError, match=message.format(shape[0])):
        open_source(f"lsp:{root}", "train")


def test_what_is_missing_or_broken_is_named(leeds, extended):
    root = leeds[0]
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere/joints\.mat; give the folder"):
        open_source(f"lsp:{root}/nowhere", "train")
    with pytest.raises(ValueError, match=r"no split 'validation' of .*; there are: train, all, test"):
        open_source(f"lsp:{root}", "validation")
    (root / "images" / "im0005.jpg").unlink()
    assert len(open_source(f"lsp:{root}", "train")) == 3
    with pytest.raises(FileNotFoundError, match=r"1 of 3 pictures are not there: .*im0005\.jpg"):
        open_source(f"lsp:{root}", "test")
    (root / "joints.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(ImageError, match=r"joints\.mat: no joints can be read"):
        open_source(f"lsp:{root}", "train")
    root, joints = extended
    joints[1:, 2, 1] = 0
    savemat(root / "joints.mat", {"joints": joints})
    with pytest.raises(ExampleError, match=r"image 1 \(.*im00002\.jpg\): its [01] labelled joints have no width"):
        open_source(f"lsp:{root}", "train")[1]


def flic_struct(rng, count, changes=None):
    """The struct array of examples.mat; changes: {(example, field): value}."""
    fields = (
        "poselet_hit_idx",
        "moviename",
        "coords",
        "filepath",
        "imgdims",
        "currframe",
        "torsobox",
        "istrain",
        "istest",
    )
    examples = np.empty((1, count), [(name, object) for name in fields])
    truth = []
    for n in range(count):
        coords = np.full((2, 29), np.nan)
        columns = list(FLIC_JOINTS.values())
        coords[:, columns] = rng.uniform([[1], [1]], [[119], [89]], (2, len(columns)))
        if n == 1:
            coords[:, 2] = np.nan  # a wrist that nobody marked
        torso = np.array([40.0, 30.0, 60.0, 60.0]) + n
        values = (
            np.arange(3.0), "a-movie", coords, f"a-movie-{n:08d}.jpg", np.array([*SIZE, 3.0]), 100.0 + n, torso,
            n % 3 > 0, n % 3 == 0,
        )  # fmt: skip
        for name, value in zip(fields, values):
            examples[0, n][name] = (changes or {}).get((n, name), value)
        truth.append((coords, torso))
    return examples, truth


@pytest.fixture
def flic(tmp_path):
    examples, truth = flic_struct(np.random.default_rng(0), 6)
    write_images(tmp_path / "images", [f"a-movie-{n:08d}.jpg" for n in range(6)])
    savemat(tmp_path / "examples.mat", {"examples": examples})
    return tmp_path, truth


def test_flic_reads_as_it_was_written(flic):
    root, truth = flic
    order = ("lsho", "lelb", "lwri", "rsho", "relb", "rwri", "lhip", "lkne", "lank", "rhip", "rkne", "rank", "leye")
    order = (*order, "reye", "lear", "rear", "nose")
    short = {"shoulder": "sho", "elbow": "elb", "wrist": "wri", "hip": "hip", "eye": "eye"}
    for split, numbers in (("train", (1, 2, 4, 5)), ("test", (0, 3))):
        source = pickle.loads(pickle.dumps(open_source(f"flic:{root}", split)))
        assert isinstance(source, Source) and len(source) == len(numbers) and len(source.keypoint_names) == 11
        for i, n in enumerate(numbers):
            example, (coords, torso) = source[i], truth[n]
            assert example["file"].endswith(f"a-movie-{n:08d}.jpg")
            for name, joint in zip(source.keypoint_names, example["keypoints"][0]):
                side, _, part = name.partition("_")
                x, y = coords[:, order.index(side[0] + short[part] if part else name)]
                np.testing.assert_allclose(joint, (0, 0, 0) if np.isnan(x) else (x, y, 2), rtol=1e-6)
            x1, y1, x2, y2 = torso  # 20 wide, 30 high: a square of 90 around its middle
            expected = [(x1 + x2) / 2 - 45, (y1 + y2) / 2 - 45, (x1 + x2) / 2 + 45, (y1 + y2) / 2 + 45]
            np.testing.assert_allclose(example["proposals"], [np.clip(expected, 0, [120, 90, 120, 90])], rtol=1e-5)
    names = source.keypoint_names
    assert all(names[a].replace("left", "right") == names[b] for a, b in source.flip_pairs)


def test_flics_persons_are_where_the_network_looks(flic):
    batches = Batches(
        open_source(f"flic:{flic[0]}:train"), batch_size=4, fields=get("region_pose").fields, canvases=[SIZE]
    )
    batch = batches[0]
    assert batch["proposals"].shape == (4, 1, 4) and batch["proposals_valid"].all()
    assert batch["keypoints"].shape[2:] == (11, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {(4, "coords"): np.zeros((2, 28))},
            r"example 5 \(images/a-movie-00000004\.jpg\): coords have shape \(2, 28\)",
        ),
        ({(4, "torsobox"): np.zeros(3)}, r"example 5 .* torsobox \(3,\)"),
    ],
)
def test_another_number_of_joints_is_named_by_file_and_picture(flic, changes, message):
    examples, _ = flic_struct(np.random.default_rng(0), 6, changes)
    savemat(flic[0] / "examples.mat", {"examples": examples})
    with pytest.raises(ValueError, match=message) as error:
        open_source(f"flic:{flic[0]}", "train")
    assert "examples.mat" in str(error.value)
    assert len(open_source(f"flic:{flic[0]}", "test")) == 2


def test_what_is_wrong_with_flic_is_named(flic):
    root = flic[0]
    with pytest.raises(ValueError, match=r"no split 'validation' of .*; there are: train, test"):
        open_source(f"flic:{root}", "validation")
    examples, _ = flic_struct(np.random.default_rng(0), 6)
    savemat(root / "examples.mat", {"examples": repack_fields(examples[["coords", "filepath", "istrain", "istest"]])})
    with pytest.raises(ValueError, match=r"examples\.mat: its examples have no torsobox"):
        open_source(f"flic:{root}", "train")
    examples, _ = flic_struct(np.random.default_rng(0), 1)
    savemat(root / "examples.mat", {"examples": examples})
    with pytest.raises(ValueError, match=r"examples\.mat: no example is marked as istrain"):
        open_source(f"flic:{root}", "train")
    assert len(open_source(f"flic:{root}", "test")) == 1
