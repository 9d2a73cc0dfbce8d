import json
import os
import shutil
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
from pycocotools import mask as rle
from tiny import tiny_config

import jaxvision
from jaxvision import architecture as architectures
from jaxvision import cli, runs
from jaxvision import config as configs
from jaxvision.data.images import read_image, write_image
from jaxvision.data.scenes import open_scenes
from jaxvision.runs import load_run
from jaxvision.train.stages import run

NAMES = ["mask_rcnn", "fcn8s", "resnet"]


@pytest.fixture(scope="module")
def workdirs(prepared, tmp_path_factory):
    """A run of two steps of each kind of architecture."""
    folder = tmp_path_factory.mktemp("runs")
    for name in NAMES:
        data_dir = prepared("single" if name == "resnet" else "shapes")
        run(tiny_config(name, data_dir, steps=2, evaluate={"every": 2}), str(folder / name))
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Pictures of several kinds and sizes: path -> (height, width) as a viewer shows it."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)

    def noise(*shape):
        return rng.integers(0, 256, shape).astype(np.uint8)

    write_image(folder / "photo.jpg", noise(70, 100, 3))
    write_image(folder / "drawing.png", noise(64, 64, 3))
    cv2.imwrite(str(folder / "grey.png"), noise(40, 50))
    cv2.imwrite(str(folder / "alpha.png"), noise(128, 40, 4))
    jpeg = (folder / "photo.jpg").read_bytes()
    exif = (
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06" + b"\0" * 6
    )  # orientation 6: turned by a quarter
    (folder / "turned.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    sizes = {"photo.jpg": (70, 100), "drawing.png": (64, 64), "grey.png": (40, 50), "alpha.png": (128, 40)}
    return {str(folder / name): size for name, size in {**sizes, "turned.jpg": (100, 70)}.items()}


def message(*arguments) -> str:
    """What a command that fails says: one line, at exit status 1."""
    with pytest.raises(SystemExit) as error:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(error.value.code, str) and "\n" not in error.value.code  # printed by Python, with status 1
    return error.value.code


def test_models_are_listed(capsys):
    cli.main(["models"])
    own, published = capsys.readouterr().out.split("\n\n")
    assert own.split() == architectures.names()
    [row] = [line for line in published.splitlines() if line.startswith("maskrcnn_resnet50_fpn ")]
    assert row.split()[1:3] == ["COCO_V1", "44,401,393"] and "box/AP 37.9, mask/AP 34.6" in row
    assert "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth" in row


# evaluate


@pytest.mark.parametrize("name", NAMES)
def test_evaluate_gives_the_runs_own_scores(workdirs, name, tmp_path, capsys):
    expected = json.loads((workdirs / name / "evaluation.json").read_text())["validation"]
    cli.main(["evaluate", "--workdir", str(workdirs / name), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    scores = json.loads((tmp_path / "out" / "evaluation.json").read_text())["validation"]
    assert scores.keys() == expected.keys()
    for metric, value in expected.items():  # null: a metric without any ground truth
        assert scores[metric] == (value if value is None else pytest.approx(value, rel=1e-5))
    assert "validation" in printed and "loss" in printed and f"{scores['loss']:.4f}" in printed
    assert (tmp_path / "out" / "predictions.json").exists() == (name == "mask_rcnn")
    drawn = {"mask_rcnn": {"confusion", "precision_recall", "error_types"}}
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == drawn.get(name, {"confusion"})
    if name == "fcn8s":
        lines = [line.split() for line in printed.split("\n\n")[1].splitlines()]
        assert lines[0][:4] == ["class", "pixels", "accuracy", "iu"]
        ious = {line[0]: float(line[3]) for line in lines[1:]}
        assert len(ious) == 7 and np.nanmean(list(ious.values())) == pytest.approx(scores["mean_iu"], abs=1e-4)
        assert sum(int(line[1].replace(",", "")) for line in lines[1:]) == 16 * 128 * 128
    if name == "mask_rcnn":
        rows = json.loads((tmp_path / "out" / "predictions.json").read_text())
        for row in rows:
            assert row.keys() == {"image_id", "category_id", "score", "bbox", "segmentation"}
        header, *lines = printed.strip().split("\n\n")[1].splitlines()
        assert header.split()[:3] == ["class", "objects", "AP50"] and len(lines) == 6


def test_evaluate_scores_another_split(workdirs, tmp_path, capsys):
    for split in ("train", "test"):
        cli.main(["evaluate", "--workdir", str(workdirs / "resnet"), "--split", split, "--out", str(tmp_path)])
        assert 0 <= json.loads((tmp_path / "evaluation.json").read_text())[split]["top1"] <= 1


def evaluated(workdir, out, *views):
    cli.main(["evaluate", "--workdir", str(workdir), "--out", str(out), *views])
    return json.loads((out / "evaluation.json").read_text())["validation"]


@pytest.mark.parametrize("name", NAMES)
def test_evaluate_with_views(workdirs, name, tmp_path):
    own = json.loads((workdirs / name / "evaluation.json").read_text())["validation"]
    scores = evaluated(workdirs / name, tmp_path, "--flip")
    assert own.keys() - scores.keys() == {key for key in own if key.startswith("loss")}
    if name == "resnet":  # the mean of what is seen twice is what is seen
        assert evaluated(workdirs / name, tmp_path, "--scales", "1,1")["top1"] == own["top1"]


@pytest.fixture
def noisy(monkeypatch):
    """Segmenters of runs get noise on their weights: after two steps they see background alone."""

    def load(directory):
        config, architecture, variables, names = load_run(directory)
        rng = np.random.default_rng(0)
        if architecture.task == "segmentation":
            variables = jax.tree.map(
                lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32), variables
            )
            batch = {"image": rng.random((1, 64, 64, 3), np.float32), "image_size": np.full((1, 2), 64)}
            logits = architecture.model.apply(variables, batch)["logits"]
            variables["params"]["score"]["bias"] -= logits.mean((0, 1, 2))  # no class wins everywhere
        return config, architecture, variables, names

    monkeypatch.setattr(runs, "load_run", load)


def test_evaluate_with_views_is_the_predictors_own(workdirs, scenes_dir, noisy, tmp_path):
    config, architecture, variables, _ = runs.load_run(str(workdirs / "fcn8s"))
    found = []
    for options, views in (
        (["--tiles", "64,96", "--overlap", "0.25"], {"tiles": jaxvision.Tiles((64, 96), 0.25)}),
        (["--flip"], {"tta": jaxvision.TTA(), "canvas": configs.canvases(config)}),
    ):
        predictor = jaxvision.Predictor(architecture, variables, **views)
        source = open_scenes("shapes", "validation", scenes_dir)
        evaluator = predictor.task.evaluator(source)
        for i in range(len(source)):
            evaluator.update(source[i]["image_id"], predictor([source[i]["image"]])[0])
        scores, expected = evaluated(workdirs / "fcn8s", tmp_path, *options), evaluator.compute()
        assert scores["mean_iu"] == pytest.approx(expected["mean_iu"], abs=1e-4)
        found.append(expected["mean_iu"])
    assert abs(found[0] - found[1]) > 1e-3


# predict


@pytest.mark.parametrize("name", NAMES)
def test_predict_draws_and_lists_what_it_sees(workdirs, files, name, tmp_path, capsys):
    out = tmp_path / "out"
    cli.main(["predict", "--workdir", str(workdirs / name), "--out", str(out), "--threshold", "0.1", *files])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(files)
    rows = json.loads((out / "predictions.json").read_text())
    for path, (height, width), line in zip(files, files.values(), lines):
        picture = out / (os.path.splitext(os.path.basename(path))[0] + ".png")
        assert line.startswith(f"{path} -> {picture}: ")
        drawn = read_image(picture)
        assert drawn.shape[0] >= height and drawn.shape[1] >= width
        for row in (row for row in rows if row["file_name"] == path):
            assert list(files)[row["image_id"]] == path
            if name == "mask_rcnn":
                x, y, w, h = row["bbox"]
                assert 0 <= x < x + w <= width + 1e-3 and 0 <= y < y + h <= height + 1e-3
                assert rle.decode(row["segmentation"]).shape == (height, width)
                assert row["score"] >= 0.1 and row["class_name"] != "background" and row["category_id"] > 0
            elif name == "resnet":
                assert row["class_name"] != "background" and 0 <= row["score"] <= 1
            else:
                assert sum(row["share_of_pixels"].values()) == pytest.approx(1)
    seen = {row["file_name"] for row in rows}
    assert seen == set(files) if name != "mask_rcnn" else seen and seen <= set(files)


def test_predict_with_views(workdirs, files, noisy, tmp_path):
    def shares(name, *options):
        cli.main(["predict", "--workdir", str(workdirs / name), "--out", str(tmp_path), *options, *files])
        return json.loads((tmp_path / "predictions.json").read_text())

    whole, views = shares("fcn8s"), ["--tiles", "64,64", "--overlap", "0.3", "--flip", "--scales", "0.5,1"]
    assert len(shares("fcn8s", *views)) == len(whole) and shares("fcn8s", *views) != whole
    assert read_image(tmp_path / "photo.png").shape[1] == 2 * 6 * 100  # the overlay beside the map, six times as large
    assert {row["file_name"] for row in shares("mask_rcnn", "--threshold", "0.1", "--flip")} <= set(files)


def test_views_that_cannot_be_meant(workdirs, files, tmp_path, capsys):
    rest = ["--out", tmp_path, next(iter(files))]
    for name, options, text in (
        ("fcn8s", ["--overlap", "0.5"], "--overlap is that of --tiles: give both"),
        ("fcn8s", ["--tiles", "64,64", "--overlap", "1"], "from 0 to below 1, got 1.0"),
        ("fcn8s", ["--tiles", "64"], "The size of tiles is"),
        ("fcn8s", ["--scales", "0,1"], "scales must be positive"),
        ("mask_rcnn", ["--tiles", "64,64"], "for instance_segmentation leave them out"),
    ):
        assert text in message("predict", "--workdir", workdirs / name, *options, *rest)
    with pytest.raises(SystemExit) as error:
        cli.main(["predict", "--workdir", "x", "--tiles", "64,a", *map(str, rest)])
    assert error.value.code == 2 and "argument --tiles: invalid" in capsys.readouterr().err


def test_pictures_of_one_name_do_not_overwrite_each_other(workdirs, tmp_path):
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(str(tmp_path / folder / "x.png"))
        write_image(paths[-1], np.full((64, 64, 3), 10 * len(folder), np.uint8))
    cli.main(["predict", "--workdir", str(workdirs / "resnet"), "--out", str(tmp_path / "out"), *paths])
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


# What goes wrong


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_no_run_there(command, tmp_path):
    rest = [tmp_path / "a.png", "--out", tmp_path / "out"] if command == "predict" else []
    assert "holds no run: there is no config.json" in message(command, "--workdir", tmp_path / "nowhere", *rest)


def test_a_missing_image(workdirs, tmp_path):
    text = message("predict", "--workdir", workdirs / "resnet", "--out", tmp_path / "out", tmp_path / "missing.png")
    assert "missing.png: cannot be read (No such file or directory)" in text


def test_an_image_too_small_for_the_network(monkeypatch, files, tmp_path):
    """At its own size, which is rounded up to multiples of 32, as segmenters see it."""
    network = jaxvision.create("deconvnet", num_classes=2)
    monkeypatch.setattr(runs, "load_run", lambda _: (tiny_config("fcn8s"), network, {}, ("background", "cat")))
    path = next(path for path in files if path.endswith("grey.png"))
    text = message("predict", "--workdir", tmp_path, "--out", tmp_path / "out", path)
    assert text.startswith(f"ValueError: {path}: Images of 64x64 are too small for this network")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_truncated_image(workdirs, files, tmp_path, suffix):
    whole = next(path for path in files if path.endswith(suffix))
    path = tmp_path / f"cut{suffix}"
    with open(whole, "rb") as file:
        path.write_bytes(file.read()[:-400])
    text = message("predict", "--workdir", workdirs / "resnet", "--out", tmp_path / "out", path)
    assert f"cut{suffix}: the {'JPEG' if suffix == '.jpg' else 'PNG'} is cut off" in text


def test_an_unknown_source_and_split(workdirs):
    text = message("evaluate", "--workdir", workdirs / "resnet", "--source", "imagenet")
    assert "There is no source 'imagenet'. Known: scenes/shapes" in text
    text = message("evaluate", "--workdir", workdirs / "resnet", "--source", "coco:/nowhere/a.json:/nowhere")
    assert "no annotations at /nowhere/a.json" in text


def test_a_damaged_checkpoint(workdirs, tmp_path, files):
    shutil.copytree(workdirs / "resnet", tmp_path / "run")
    damaged = 0
    for folder, _, names in os.walk(tmp_path / "run" / "checkpoints" / "2" / "state"):
        for name in names:
            with open(os.path.join(folder, name), "wb") as file:
                file.write(b"damaged")
            damaged += 1
    assert damaged
    for arguments in (["evaluate"], ["predict", next(iter(files)), "--out", tmp_path / "out"]):
        text = message(*arguments, "--workdir", tmp_path / "run")
        assert f"The checkpoint {tmp_path / 'run' / 'checkpoints' / '2'} cannot be read" in text
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "2")
    assert "There is no finished checkpoint in" in message("evaluate", "--workdir", tmp_path / "run")


def test_the_exit_status_of_an_error_is_1(tmp_path):
    command = [sys.executable, "-c", "from jaxvision.cli import main; main()", "evaluate", "--workdir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "holds no run" in done.stderr
    done = subprocess.run(command[:4], capture_output=True, text=True)
    assert done.returncode == 2 and "--workdir" in done.stderr
