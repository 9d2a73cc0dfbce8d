"""The examples run as they stand, on fewer scenes."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import numpy as np

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
OWN_LOOP = EXAMPLES / "own_loop.py"


def test_a_loop_of_ones_own_lowers_the_loss(scenes_dir):
    environment = os.environ | {"TFDS_DATA_DIR": scenes_dir, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, OWN_LOOP], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    losses = np.array(re.findall(r"loss (\d+\.\d+)", run.stdout), float)
    assert len(losses) == 40 and losses[-8:].mean() < 0.7 * losses[:8].mean()


def test_a_loop_of_ones_own_stays_short():
    code = [s for s in ast.parse(OWN_LOOP.read_text()).body[1:] if not isinstance(s, ast.Import | ast.ImportFrom)]
    lines = "\n".join(map(ast.unparse, code)).splitlines()
    assert len([line for line in lines if line.strip()]) <= 20


def test_alpha_is_chosen_by_the_metric(prepared):
    """On eight steps each: every alpha is trained and scored, and the best is named whatever its loss."""
    environment = os.environ | {"TFDS_DATA_DIR": prepared("single"), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, EXAMPLES / "choose_alpha.py", "8"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    rows = re.findall(r"alpha ([\d.]+): loss ([\d.]+), .* loc/top1 ([\d.]+)$", run.stdout, re.M)
    assert [float(alpha) for alpha, *_ in rows] == [0.1, 1, 10, 100]
    losses, scores = ([float(row[i]) for row in rows] for i in (1, 2))
    assert losses[0] < losses[-1]  # which would always choose the least alpha
    best = re.search(r"best by loc/top1: alpha ([\d.]+), --config\.losses\.box=([\d.]+)", run.stdout)
    assert best[1] == best[2] == rows[scores.index(max(scores))][0]


def test_finetuning_a_new_head_lowers_the_loss(scenes_dir, tmp_path):
    environment = os.environ | {"TFDS_DATA_DIR": scenes_dir, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, EXAMPLES / "finetune_torchvision.py"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    losses = np.array(re.findall(r"loss (\d+\.\d+)", run.stdout), float)
    assert len(losses) == 40 and losses[-8:].mean() < 0.8 * losses[:8].mean()
    entries = np.load(tmp_path / "finetuned.npz")
    assert entries["roi_heads.box_predictor.cls_score.weight"].shape[0] < 91


def test_probes_of_every_layer_are_printed(prepared):
    environment = os.environ | {"TFDS_DATA_DIR": prepared("single"), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, EXAMPLES / "linear_probe.py"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = dict(re.findall(r"(c\d): \d+ channels, accuracy (\d\.\d+)", run.stdout))
    assert list(found) == ["c1", "c2", "c3", "c4", "c5"] and all(0 <= float(value) <= 1 for value in found.values())
