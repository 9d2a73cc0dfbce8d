"""`jaxvision explain` and `jaxvision features`, on networks whose answers are known, and on small ones of each kind."""

import json

import cv2
import jax
import numpy as np
import pytest
from flax import linen as nn
from tiny import FCN8S, MASK_RCNN, tiny_config

import jaxvision
from jaxvision import cli, runs
from jaxvision.architecture import Architecture
from jaxvision.batch import blank
from jaxvision.data.images import read_image, write_image
from jaxvision.models.backbones.classification import classification_losses, classification_predict
from jaxvision.ops.pool import avg_pool

NAMES = ("red", "green", "blue")
SQUARE = (100, 20, 130, 50)  # x1 y1 x2 y2 in an image of 150 x 90


class Colours(nn.Module):
    """Sees pure colours, and where they are: the class is the colour that covers most."""

    @nn.compact
    def __call__(self, batch, train=False):
        x = batch["image"].astype(np.float32) / 255
        x = nn.relu(x - x[..., (1, 2, 0)] - x[..., (2, 0, 1)])
        x = self.perturb("c1", avg_pool(x, 8))
        return {"c1": x, "logits": nn.Dense(3, name="head")(x.mean((1, 2)))}


@pytest.fixture
def colours(monkeypatch, tmp_path):
    """A red square at `SQUARE` and a smaller blue one at the lower left, and a run whose network tells colours."""
    architecture = Architecture("colours", Colours(), classification_losses, classification_predict, "classification")
    variables = {"params": {"head": {"kernel": np.eye(3, dtype=np.float32), "bias": np.zeros(3, np.float32)}}}
    config = tiny_config("resnet", data={"canvas": (128, 128)})
    monkeypatch.setattr(runs, "load_run", lambda directory: (config, architecture, variables, NAMES))
    image = np.full((90, 150, 3), 100, np.uint8)
    image[20:50, 100:130] = (250, 20, 20)
    image[70:85, 10:25] = (20, 20, 250)
    write_image(tmp_path / "squares.png", image)
    return tmp_path


def explained(folder, *options):
    cli.main(["explain", "--workdir", "run", "--out", str(folder / "out"), str(folder / "squares.png"), *options])
    return json.loads((folder / "out" / "explanations.json").read_text())


def inside(point, box):
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


@pytest.mark.parametrize("method", ["gradcam", "cam", "guided_gradcam", "guided", "gradient"])
def test_the_square_of_the_class_is_where_the_map_is(colours, method, capsys):
    rows = explained(colours, "--method", method, "--target", "red", "--target", "class:2")
    assert [row["target"] for row in rows] == ["red", "blue"] and rows[0]["score"] > rows[1]["score"] > 0
    assert inside(rows[0]["peak"], SQUARE) and inside(rows[1]["peak"], (10, 70, 25, 85))
    assert f"squares_{method}.png: red" in capsys.readouterr().out
    picture = read_image(rows[0]["picture"])
    assert picture.shape[1] > 3 * 750  # the image, five times as large, and a picture for each target


def test_a_map_is_not_shifted(colours):
    """The centre of its mass is the square's, to a fraction of a cell."""
    [row] = explained(colours)
    assert row["method"] == "gradcam" and row["layer"] == "c1" and row["target"] == "red"
    heat = np.array(row["map"])
    assert heat.shape == (16, 16)
    y, x = ((np.indices(heat.shape) + 0.5) * heat).sum((1, 2)) / heat.sum() * 8 * 150 / 128
    assert abs(x - 115) < 1.5 and abs(y - 35) < 1.5
    picture = read_image(row["picture"])
    panel = picture[-450:, -750:].astype(int)  # under its title
    red = cv2.resize((panel[..., 0] - panel[..., 2]).astype(np.float32), (150, 90), interpolation=cv2.INTER_AREA)
    y, x = np.argwhere(red > 0.9 * red.max()).mean(0) + 0.5
    assert abs(x - 115) < 3 and abs(y - 35) < 3


def test_what_speaks_against_a_class(colours, monkeypatch):
    _, architecture, variables, _ = runs.load_run("run")
    kernel = np.eye(3, dtype=np.float32)
    kernel[2, 0] = -1  # blue speaks against red
    against = {"params": {"head": {**variables["params"]["head"], "kernel": kernel}}}
    config = tiny_config("resnet", data={"canvas": (128, 128)})
    monkeypatch.setattr(runs, "load_run", lambda directory: (config, architecture, against, NAMES))
    [row] = explained(colours, "--method", "counterfactual", "--target", "red")
    assert inside(row["peak"], (10, 70, 25, 85)) and np.min(row["map"]) == 0


def test_channels_are_drawn(colours):
    rows = explained(colours, "--method", "deconvnet", "--channels", "2,0")
    assert [row["channel"] for row in rows] == [2, 0] and inside(rows[1]["peak"], SQUARE)
    assert inside(rows[0]["peak"], (10, 70, 25, 85))
    assert len(explained(colours, "--method", "features")) == 3
    assert read_image(colours / "out" / "squares_features.png").shape == (2 * 50, 2 * 50, 3)


def test_features_are_written(colours):
    second = colours / "dark.png"
    write_image(second, np.zeros((64, 64, 3), np.uint8))
    out, paths = colours / "found.npz", [str(colours / "squares.png"), str(second)]
    cli.main(["features", "--workdir", "run", "--layer", "c1", "--out", str(out), *paths])
    found = dict(np.load(out))
    assert found["features"].shape == (2, 16, 16, 3) and found["files"].tolist() == paths
    y, x = np.unravel_index(found["features"][0, ..., 0].argmax(), (16, 16))
    assert inside(((x + 0.5) * 8 * 150 / 128, (y + 0.5) * 8 * 150 / 128), SQUARE) and not found["features"][1].any()
    cli.main(["features", "--workdir", "run", "--layer", "c1", "--pool", "--out", str(out), *paths])
    np.testing.assert_allclose(np.load(out)["features"], found["features"].mean((1, 2)), atol=1e-6)


def message(*arguments) -> str:
    with pytest.raises(SystemExit) as error:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(error.value.code, str) and "\n" not in error.value.code
    return error.value.code


def test_what_goes_wrong_is_said(colours):
    rest = ["--workdir", "run", "--out", colours / "out", colours / "squares.png"]
    for options, text in (
        (["--layer", "c9"], "no layer 'c9'; did you mean \"c1\"? Known: c1"),
        (["--layer", "logits"], "a map needs height and width, as c1 have"),
        (["--target", "3"], "Class 3 does not exist: there are 3, 0 to 2"),
        (["--target", "gren"], "no class 'gren'; did you mean \"green\"? Known: blue, green, red"),
        (["--target", "detection:0"], "the network is no detector"),
        (["--target", "detection:x"], "is not detection:NUMBER"),
        (["--target", "region:red"], "A region is explained of a segmenter"),
        (["--target", "joint:left"], "is not joint:JOINT"),
        (["--target", "joint:0:x"], "this one has no `joints`"),
        (["--method", "features", "--target", "red"], "leave --target out"),
        (["--method", "features", "--channels", "3"], "Channel 3 does not exist: there are 3"),
        (["--channels", "1"], "--channels is of deconvnet and features"),
        (["--method", "guided", "--layer", "c1"], "leave --layer out"),
    ):
        assert text in message("explain", *options, *rest), options
    rest = ["--workdir", "run", "--out", colours / "x.npz", colours / "squares.png"]
    assert "no layer 'c9'" in message("features", "--layer", "c9", *rest)


def random_run(options, classes, fields, seed=0):
    """A network of noise large enough that it sees things."""
    architecture = jaxvision.create(num_classes=classes, **options)
    variables = architecture.init(jax.random.key(0), blank(fields, (64, 64), max_boxes=2, joints=5))
    rng = np.random.default_rng(seed)
    variables = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), variables)
    names = ("background", *(f"thing{i}" for i in range(1, classes)))
    return tiny_config("mask_rcnn", data={"canvas": (64, 64)}), architecture, variables, names


def test_a_detection_and_a_joint_are_explained(monkeypatch, tmp_path):
    options = {k: v for k, v in MASK_RCNN.items() if not k.startswith("mask_")}
    options |= dict(name="keypoint_rcnn", joints=5, keypoint_convs=(8,), keypoint_size=4, keypoint_sampling_ratio=1)
    run = random_run({**options, "score_threshold": 0.0}, 3, ("boxes", "classes", "valid", "keypoints"))
    monkeypatch.setattr(runs, "load_run", lambda directory: run)
    write_image(tmp_path / "squares.png", np.random.default_rng(0).integers(0, 256, (50, 64, 3)).astype(np.uint8))
    rows = explained(
        tmp_path, "--layer", "c3", "--target", "detection:0", "--target", "joint:2@0", "--target", "joint:2@1"
    )
    [detected] = jaxvision.Predictor(*run[1:3], canvas=(64, 64))([read_image(tmp_path / "squares.png")])
    assert rows[0]["target"] == f"{run[3][detected['classes'][0]]} 0" and rows[1]["target"] == "joint 2"
    assert rows[1]["score"] != rows[2]["score"] and max(map(np.max, (row["map"] for row in rows))) > 0
    rest = ["--workdir", "run", "--out", tmp_path / "out", tmp_path / "squares.png", "--layer", "c3"]
    assert "Detection 5 does not exist: there are 5" in message("explain", "--target", "detection:5", *rest)
    assert "Joint 5 does not exist" in message("explain", "--target", "joint:5", *rest)
    assert "of a detector say which detection" in message("explain", "--target", "thing1", *rest)
    strict = jaxvision.create(num_classes=3, **{**options, "score_threshold": 1.0})
    monkeypatch.setattr(runs, "load_run", lambda directory: (run[0], strict, *run[2:]))
    assert "there is no detection 0; 0 were found" in message("explain", *rest)


def test_a_region_is_explained(monkeypatch, tmp_path):
    run = random_run(FCN8S, 4, ("semantic",))
    monkeypatch.setattr(runs, "load_run", lambda directory: run)
    write_image(tmp_path / "squares.png", np.random.default_rng(0).integers(0, 256, (32, 64, 3)).astype(np.uint8))
    mask = np.zeros((32, 64, 3), np.uint8)
    mask[8:16, 32:48] = 255
    write_image(tmp_path / "mask.png", mask)
    where = ["thing2@32,8,48,16", f"thing2@{tmp_path / 'mask.png'}", "2"]
    rows = explained(tmp_path, "--layer", "c2", *(word for one in where for word in ("--target", f"region:{one}")))
    assert rows[0]["score"] == pytest.approx(rows[1]["score"], rel=1e-5) and rows[0]["score"] != rows[2]["score"]
    np.testing.assert_allclose(rows[0]["map"], rows[1]["map"], atol=1e-5)
    [row] = explained(tmp_path)  # the largest class, at the last map
    assert row["layer"] == "c5" and row["target"] in run[3]
