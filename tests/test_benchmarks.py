"""The benchmarks measure what they say: figures are checked strictly, and the ways that are compared compute the same."""

import itertools
import json
import os
import pathlib
import re
import runpy
import subprocess
import sys
import types
from collections import Counter
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from claims import keep, measured, place, run_all, values, verdict, write_part
from tiny import tiny_config

from jaxvision import config as configs
from jaxvision import create, tasks
from jaxvision.batch import blank

ROOT = pathlib.Path(__file__).parents[1]

RECIPE = '''"""A tiny FCN on a few scenes.

python train.py --config={path} --workdir=runs/tiny
{reaches}
"""

import sys

sys.path.insert(0, "{tests}")

from tiny import tiny_config


def get_config():
    return tiny_config(data_dir="{data}", steps=2)
'''


@pytest.fixture(scope="module")
def scores():
    names = runpy.run_path(str(ROOT / "benchmarks" / "scores.py"))
    names["main"].__globals__["machine"] = lambda: "a machine"
    return names


def test_scores_runs_a_config_from_nothing_and_checks_both_splits(scores, scenes_dir, tmp_path, capfd):
    path = tmp_path / "recipe.py"
    reaches = "reaches: pixel_accuracy 0.0 mean_iu 0.99 validation seed 0 900 s\nreaches: mean_iu 0.0 test seed 0 900 s"
    path.write_text(RECIPE.format(path=path, data=scenes_dir, reaches=reaches, tests=ROOT / "tests"))
    table = tmp_path / "scores.md"
    kept = "| `configs/other.py` | `python` | top1 | 0.5 validation | 0.6000 | - | 3 (stated 4) | 2 cores |"
    table.write_text(f"{kept}\n| `{path}` | an older line of this config |\n")
    assert scores["main"]([str(path), f"--out={table}", f"--runs={tmp_path / 'runs'}"]) == 1
    said = capfd.readouterr().out
    assert re.search(r"validation mean_iu: 0\.\d+, stated 0.99", said) and "pixel_accuracy:" not in said
    lines = table.read_text().splitlines()
    assert kept in lines and not any("older line" in line for line in lines)
    [accuracy, mean_iu] = [line for line in lines if line.startswith(f"| `{path}`")]
    assert "missed" not in accuracy and mean_iu.count("**missed**") == 1
    assert "0.99 validation, 0.0 test" in mean_iu and mean_iu.count("|") == len(scores["COLUMNS"]) + 1
    with pytest.raises(FileExistsError, match="from nothing"):
        scores["main"]([str(path), f"--out={table}", f"--runs={tmp_path / 'runs'}"])


def test_scores_is_satisfied_at_the_floor_and_with_nothing_less(scores):
    measured = {"validation": {"mean_iu": 0.5, "loss": 1.0}}
    assert scores["missed"]({"mean_iu": {"validation": 0.5}, "loss": {"validation": 1.0}}, measured) == []
    assert len(scores["missed"]({"mean_iu": {"validation": 0.5001}}, measured)) == 1
    assert len(scores["missed"]({"loss": {"validation": 0.9999}}, measured)) == 1  # of a loss less is better
    assert len(scores["missed"]({"mean_iu": {"validation": 0.1}}, {"validation": {"mean_iu": float("nan")}})) == 1
    assert "there are mean_iu, loss" in scores["missed"]({"box/AP": {"validation": 0.0}}, measured)[0]
    assert "there are none" in scores["missed"]({"mean_iu": {"test": 0.0}}, measured)[0]


def test_scores_reads_what_a_docstring_states(scores):
    text = """Words.

    python train.py --config=configs/a.py \\
        --workdir=runs/a
    reaches: box/AP 0.55 mask/AP50 0.45 validation and test seed 0 340 s
    reaches: box/AP 0.5 validation seed 3 350 s
    """
    first, second = scores["stated"](text, "a.py")
    assert first.floors == {m: {"validation": v, "test": v} for m, v in (("box/AP", 0.55), ("mask/AP50", 0.45))}
    assert (first.seed, first.seconds, second.seed) == (0, 340, 3)
    assert scores["command"](text, "a.py") == ["python", "train.py", "--config=configs/a.py", "--workdir=runs/a"]
    assert scores["stated"]("reaches: (not measured yet)", "a.py") == []
    with pytest.raises(ValueError, match=r"a\.py.*should read"):
        scores["stated"]("reaches: box/AP about 0.5 validation seed 0 3 s", "a.py")
    with pytest.raises(ValueError, match=r"no line 'python train\.py"):
        scores["command"]("reaches: box/AP 0.5 validation seed 0 3 s", "a.py")


def test_every_shipped_config_states_its_figures_readably(scores):
    for path in sorted((ROOT / "configs").glob("*.py")):
        text = path.read_text()
        scores["stated"](text.split('"""')[1], path.name)
        assert f"--config=configs/{path.name}" in scores["command"](text.split('"""')[1], path.name)


def test_train_step_measures_a_config(scenes_dir, tmp_path):
    measure = runpy.run_path(str(ROOT / "benchmarks" / "train_step.py"))["measure"]
    measure.__globals__.update(CACHED=3, SIDE=256)
    rows = measure(tiny_config(data_dir=scenes_dir), str(tmp_path), 6)
    numbers = {name: float(re.search(r"-?\d+(\.\d+)?", text)[0]) for name, text in rows.items()}
    assert numbers["step, cached batch"] > 0 and numbers["arithmetic of a step"] > 0
    assert "5 steps" in rows["step, 0 loader worker(s)"] and "memory at step 3, 6" in rows


def test_train_step_reads_a_recipe_that_extends_another():
    command = [sys.executable, "benchmarks/train_step.py", "configs/mask_rcnn_scenes.py", "--config.steps=0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "config.steps must be a whole number of at least 1, got 0" in done.stderr


def test_crf_prints_what_it_measured(scenes_dir):
    command = [sys.executable, "benchmarks/crf.py", "--quick", f"--data_dir={scenes_dir}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    [seconds, first, peak, before] = map(float, next(cells for cells in lines if cells[0] == "fast")[3:])
    assert 0 < seconds < first and peak >= before > 0
    [same, worst, band, *right] = (float(cell.strip("%")) for cell in lines[-1][1:])
    assert same == worst > 99 and 95 < band <= 100 and min(right[1:]) > right[0]


def test_the_layers_that_are_compared_compute_the_same():
    layers = runpy.run_path(str(ROOT / "benchmarks" / "cpu_layers.py"))
    rng = np.random.default_rng(0)

    def agree(ours, theirs, x):
        results = []
        for function in (ours, theirs):
            shape = jax.eval_shape(function, x).shape
            cotangent = jnp.cos(jnp.arange(np.prod(shape), dtype=jnp.float32)).reshape(shape)
            results.append(jax.jit(lambda x, f=function, c=cotangent: (f(x), jax.vjp(f, x)[1](c)))(x))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *results)

    x = jnp.array(rng.normal(size=(2, 12, 12, 8)), jnp.float32)  # continuous: no ties, whose gradients may differ
    kernel = jnp.array(rng.normal(size=(1, 1, 8, 4)), jnp.float32)
    rois = jnp.array([[[4.0, 6, 30, 40], [0, 0, 9, 9]]] * 2)
    agree(lambda x: layers["max_pool"](x, 3, 2, 1), lambda x: layers["flax_max_pool"](x, 3, 2, 1), x)
    agree(lambda x: layers["library_conv"](x, kernel), lambda x: layers["lax_conv"](x, kernel), x)
    alone = jnp.array(rng.normal(size=(5, 5, 1, 8)), jnp.float32)
    agree(lambda x: layers["library_conv"](x, alone, 8), lambda x: layers["lax_conv"](x, alone, 8), x)
    agree(*(lambda x, impl=impl: layers["roi_align"](x, rois, 7, 4, impl) for impl in ("einsum", "gather")), x)
    assert min(layers["compare"](jnp.sin, jnp.cos, (x,), 3)) > 0


def test_the_ideas_are_measured_and_the_window_is_the_convolution(capsys):
    names = runpy.run_path(str(ROOT / "benchmarks" / "segmentation_ideas.py"))
    rows = names["measure"](24, 1)
    assert list(rows) == list(names["NETWORKS"])
    patches, convolution, full, fcn = rows.values()
    assert patches["difference"] < 1e-5 and patches["parameters"] == convolution["parameters"]
    assert patches["sees"] == convolution["sees"] == 38 and full["sees"] == 19
    # By hand, of one patch: 36 x 36 cells of 16 channels, 16 x 16 of 32, 6 x 6 of 48, then the dense layer and the scores.
    patch = 2 * (36**2 * 27 * 16 + 16**2 * 144 * 32 + 6**2 * 288 * 48 + 9 * 48 * 128 + 128 * 7)
    assert patches["gflop"] * 1e9 == 768 * patch  # 576 pixels, in blocks of 256
    assert full["gflop"] * 1e9 == 2 * 576 * (9 * 3 * 32 + 8 * 9 * 32 * 32 + 32 * 7)
    assert patches["gflop"] > 10 * convolution["gflop"] and fcn["gflop"] < full["gflop"]


@pytest.fixture(scope="module")
def claims():
    return runpy.run_path(str(ROOT / "benchmarks" / "segmentation_claims.py"))


def test_a_claim_is_judged_by_the_spread_of_its_seeds(claims):
    clear = np.array([0.10, 0.12, 0.08])
    assert verdict(clear) == "holds" and verdict(-clear) == "does not hold"
    assert verdict(clear - 0.09) == "undecided" and verdict(0.09 - clear) == "undecided"
    assert verdict(clear[:1]) == "one seed: not judged"
    known = {*claims["VARIANTS"], claims["CRF"]}
    for _, better, worse, metric in claims["CLAIMS"]:
        assert better in known and worse in known and metric in claims["METRICS"]
    assert all(v.after in claims["VARIANTS"] for v in claims["VARIANTS"].values() if v.after)


def test_the_tables_of_claims_hold_what_was_measured(claims):
    names = [*claims["METRICS"], "seconds"]
    found = {
        name: {metric: np.array([value, value + 0.02]) for metric in names}
        for name, value in (("FCN-8s", 0.5), ("FCN-16s", 0.4), ("FCN with", 0.45))
    }
    found["FCN-8s with CRF"] = found.pop("FCN with")
    lines = claims["tables"](found)
    assert "| finer strides of FCN score more | FCN-8s | FCN-16s | mean_iu | +0.1000 | 0.0000 | holds |" in lines
    assert any(line.startswith("| a dense CRF sharpens FCN-8s") and line.endswith("does not hold |") for line in lines)
    assert not any("DeconvNet" in line for line in lines)  # whose runs are not there
    assert any(line.startswith("| FCN-8s | ") and "0.5100 ± 0.0141" in line for line in lines)


@pytest.mark.slow
def test_claims_train_go_on_and_are_refined(claims, scenes_dir, tmp_path):
    claims["refine"].__globals__["IMAGES"] = 2
    data = {"dir": scenes_dir, "validation": "validation[:4]", "workers": 0}
    for name in ("front end", "context, identity", "FCN-8s"):
        claims["train"](name, 0, 4, tmp_path, {"data": data})
    claims["refine"](0, tmp_path)
    for name in ("front end", "context, identity", "FCN-8s", claims["CRF"]):
        found = values(tmp_path, name, 1)
        assert all(0 <= found[metric][0] <= 1 for metric in claims["METRICS"]) and found["seconds"][0] > 0


@pytest.fixture(scope="module")
def race():
    return runpy.run_path(str(ROOT / "benchmarks" / "detection_race.py"))


def test_the_race_is_run_on_one_trunk(race):
    """Every entry's network can be made, its parts are outputs of it, and what is in the race has the race's blocks."""
    for name, entry in race["ENTRIES"].items():
        config = race["recipe"](name, 3, 0.5)
        configs.check(config)
        assert config.seed == 3 and config.data.validation == "validation[:8]"
        pretrained = [s["architecture"]["backbone"] for s in config.stages if "backbone" in s.get("architecture", {})]
        assert len(pretrained) == (name in ("R-CNN", "SPP-net"))
        assert all(trunk[key] == config.architecture[key] for trunk in pretrained for key in ("depths", "widths"))
        if entry.of:
            assert entry.of in race["ENTRIES"] and not race["ENTRIES"][entry.of].of
            continue
        options = config.architecture.to_dict()
        architecture = create(options.pop("name"), num_classes=7, **options)
        if not entry.parts:
            continue
        batch = blank(tasks.get(architecture.task).fields, config.data.canvas, max_boxes=3)
        variables = jax.eval_shape(architecture.init, jax.random.key(0), batch)
        kernels = [leaf.shape for leaf in jax.tree.leaves(variables["params"]["trunk"]) if leaf.shape[:2] == (3, 3)]
        blocks = [(d, w) for d, w in zip(race["DEPTHS"], race["WIDTHS"])][
            : entry.blocks or (3 if "Sliding" in name else 5)
        ]
        widths = [3, *(w for d, w in blocks for _ in range(1 if "Sliding" in name else d))]
        wanted = Counter((3, 3, i, o) for i, o in itertools.pairwise(widths))
        assert not wanted - Counter(kernels), name  # SSD's has fc6 and fc7 too
        outputs = jax.eval_shape(architecture.model.apply, variables, batch)
        assert all(end in outputs for _, end in entry.parts)
    for _, better, worse, _ in race["CLAIMS"]:
        assert {better, worse} <= race["IDEAS"].keys()
    assert race["recipe"]("Fast R-CNN", 0, 0.5).steps == race["recipe"]("Fast R-CNN", 0, 1).steps // 2
    tune = race["recipe"]("R-CNN", 0, 0.5).stages[1]
    assert tune["steps"] == tune["evaluate"]["every"] == 300
    data = [race["recipe"](name, 0, 1).data for name in race["RACE"]]
    assert {d.train for d in data} == {race["SEEN"]} and {d.validation for d in data} == {"validation[:8]"}
    [_] = {str(d.proposals) for d in data if d.proposals}  # all that need regions look at the same


def test_a_look_that_was_cut_off_does_not_train_again(race, tmp_path, monkeypatch):
    calls, work = [], race["work"]

    def train(function, name, seed, share, runs, changes):
        calls.append((function.__name__, name, changes))
        path = place(runs, name, seed) / race["TRAINED"]
        path.parent.mkdir(parents=True)
        path.write_text('{"train": 50.0, "train MiB": 7}')

    def look(name, seed, runs, changes):
        if len(calls) == 1 and not changes:
            raise RuntimeError("cut off")
        return {"with": 2.0}

    monkeypatch.setitem(work.__globals__, "apart", train)
    monkeypatch.setitem(work.__globals__, "look", look)
    with pytest.raises(RuntimeError, match="cut off"):
        work("SSD", 0, 1.0, tmp_path, False)
    calls.append("again")
    found = work("SSD", 0, 1.0, tmp_path, False)
    assert found.pop("seconds") >= 50 and found == {"train": 50.0, "train MiB": 7, "with": 2.0}
    assert set(work("5 proposals", 0, 1.0, tmp_path, False)) == {"with", "seconds"}  # it looks at another's run
    work("SSD", 0, 1.0, tmp_path / "quick", True)
    assert calls == [("train", "SSD", None), "again", ("train", "SSD", {"data": {"train": race["FEW"]}})]


def test_a_training_has_a_process_and_a_peak_of_memory_of_its_own(race, monkeypatch):
    assert race["apart"](os.getpid) != os.getpid()
    resident = int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    assert resident <= race["peak"]() + 1  # of a CPU's device JAX counts nothing
    device = types.SimpleNamespace(memory_stats=lambda: {"bytes_in_use": 2**20, "peak_bytes_in_use": 3 * 2**20})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert race["peak"]() == 3


SEARCHED = ("R-CNN", "SPP-net", "Fast R-CNN")


@pytest.mark.slow
def test_all_in_the_race_train_and_are_looked_at(race, prepared, tmp_path, monkeypatch):
    """On a few scenes; what a cut-off training left behind is not taken for the beginning of this one."""
    monkeypatch.setitem(race["milliseconds"].__globals__, "TIMED", 2)
    data = {"dir": prepared("shapes"), "train": "train", "validation": "validation[:4]", "workers": 0}
    prepared("single")
    for name, entry in race["RACE"].items():
        proposals = {"proposals": dict(method="sliding_boxes", count=24)} if name in SEARCHED else {}
        changes = {"batch_size": 4, "data": {**data, **proposals}}
        left = place(tmp_path, name, 0) / "left"
        left.mkdir(parents=True)
        race["train"](name, 0, 0, tmp_path, changes)
        assert not left.exists()
        found = json.loads((left.parent / race["TRAINED"]).read_text())
        assert found["train"] == sum(v for k, v in found.items() if k.startswith("train/")) > 0
        assert all(value > 0 for value in found.values()) and "train/proposals" not in found
        found |= race["look"](name, 0, tmp_path)
        parts = [f"test/{part}" for part, _ in entry.parts] + ["test/heads" if entry.parts else "test/network"]
        assert set(parts) <= set(found) and found["test MiB"] > 0 and 0 <= found["box/AP50"] <= 1
        np.testing.assert_allclose(sum(found[part] for part in parts), found["without"])
        assert (found["with"] > found["without"]) == (name in SEARCHED)


def test_the_races_table_holds_what_was_measured(race):
    def found(train, network, search, **parts):
        numbers = {"box/AP": 0.4, "box/AP50": 0.6, "train": train, "without": network, "with": network + search}
        numbers |= {"train MiB": 900, "test MiB": 500, "seconds": 1200, **parts}
        return {k: np.array([v]) for k, v in numbers.items()}

    slow = found(
        100.0, 50.0, 30.0, **{"train/tune": 60.0, "train/svms": 40.0, "test/heads": 50.0, "test/region search": 30.0}
    )
    fast = found(
        25.0, 2.0, 30.0, **{"train/network": 25.0, "test/trunk": 1.0, "test/heads": 1.0, "test/region search": 30.0}
    )
    faster = found(
        30.0, 4.0, 0.0, **{"train/network": 30.0, "test/trunk": 2.0, "test/proposals": 1.0, "test/heads": 1.0}
    )
    lines = race["report"]({"R-CNN": slow, "Fast R-CNN": fast, "Faster R-CNN": faster})
    assert lines[-1] == "All of it took 1.00 hours." and not any("claim" in line for line in lines)
    [row] = [line for line in lines if line.startswith("| R-CNN |")]
    assert "| 0.6000 | 0.4000 | 100 | 80.0 | 50.0 | 900 | 500 |" in row and "tune 60%, svms 40%" in row
    assert "heads 62%, region search 38%" in row and "| 84 h | 47 s | 66.0 |" in row
    text = "\n".join(lines)
    assert (
        "trains 4.0 times as fast as R-CNN, in the papers 9 times. At least 5 was expected: it does not hold." in text
    )
    assert "25.0 times as fast as R-CNN, in the papers 147 times. At least 10 was expected: it holds." in text
    assert "Proposals take 25% of Faster R-CNN's" in text and "Under 20% was expected: it does not hold." in text


def test_a_run_that_ended_is_not_done_again(tmp_path, monkeypatch):
    """A worker that fails stops all, and what ended before stays."""
    script, runs = tmp_path / "script.py", tmp_path / "runs"
    script.write_text(
        "import sys, pathlib\nfrom claims import keep\n"
        "folder, _, name, seed = sys.argv[1:]\nif name == 'broken':\n    sys.exit(3)\n"
        "keep(pathlib.Path(folder), name, int(seed), {'score': len(name) + int(seed)})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "benchmarks"))
    keep(runs, "Known One", 1, {"score": 50})
    run_all(str(script), [str(runs)], runs, ["Known One", "b"], 2)
    with pytest.raises(subprocess.CalledProcessError):
        run_all(str(script), [str(runs)], runs, ["b", "broken", "c"], 1)
    assert values(runs, "Known One", 2)["score"].tolist() == [9, 50] and values(runs, "b", 2)["score"].tolist() == [
        1,
        2,
    ]
    assert measured(runs, "c", 0) is None


def test_a_part_of_the_page_is_written_and_the_others_stay(tmp_path):
    page = tmp_path / "claims.md"
    write_part("One", ["a", "", "b"], page)
    write_part("Two", ["c"], page)
    write_part("One", ["d"], page)
    assert page.read_text() == "# Claims of the literature\n\n## One\n\nd\n\n## Two\n\nc\n"


@pytest.mark.slow
def test_shallow_and_deep_are_measured_on_the_same_pictures(prepared):
    names = runpy.run_path(str(ROOT / "benchmarks" / "shallow_deep.py"))
    settings = {**names["QUICK"], "train": "train[:16]", "validation": "validation[:8]", "test": "test[:8]", "steps": 2}
    names["measure"].__globals__["STRENGTHS"] = (1.0,)
    rows = names["measure"](settings, data_dir=prepared("single"))
    svm, flat, convolutional = rows.values()
    assert svm["parameters"] == 6 * (15 * 15 * 36 + 1) and svm["train"] == 1  # more numbers than pictures
    assert flat["parameters"] == 128 * 128 * 3 * 256 + 256 + 257 * 256 + 257 * 6
    assert convolutional["parameters"] < flat["parameters"] / 10
    assert all(0 <= r["test"] <= 1 and r["seconds"] > 0 and r["each"] > 0 for r in rows.values())


def test_a_networks_rate_is_that_which_does_best_on_the_validation_pictures():
    names = runpy.run_path(str(ROOT / "benchmarks" / "shallow_deep.py"))
    known = names["measure"].__globals__
    known["open_source"] = lambda *_: SimpleNamespace(class_names=("cat", "dog"))
    known["shallow"] = lambda *_: names["row"](1, 1, 1, 1, 1)
    known["RATES"] = (0.1, 0.2, 0.4)

    def deep(network, sources, settings, seed, rate):
        return -abs(rate - 0.2), names["row"](rate, 1 - rate, 7, 10.0, 1)

    known["deep"] = deep
    svm, *networks = names["measure"](names["QUICK"]).values()
    assert svm["seconds"] == 1 and networks == [names["row"](0.2, 0.8, 7, 30.0, 1)] * 2


def test_the_table_of_shallow_and_deep():
    names = runpy.run_path(str(ROOT / "benchmarks" / "shallow_deep.py"))
    [_, _, line] = names["lines"]({"A": names["row"](0.9, 0.75, 1234, 61.4, 0.0023)})
    assert line == "| A | 0.9000 | 0.7500 | +0.1500 | 1,234 | 61 | 2.3 |"
    descriptor = names["hog"]()
    assert descriptor.getDescriptorSize() == 15 * 15 * 36
    picture = np.zeros((128, 128), np.uint8)
    picture[:, 64:] = 200  # an upright edge: all of a cell's gradient in one direction
    found = descriptor.compute(picture).reshape(15, 15, 4, 9)
    assert (
        (found[7, 7].argmax(-1) == found[7, 7, 0].argmax()).all() and found[7, 7].max() > 0.3 and not found[0, 0].any()
    )


def test_grad_cam_is_measured_beside_both_passes(capsys):
    names = runpy.run_path(str(ROOT / "benchmarks" / "explain.py"))
    names["measure"].__globals__["LAYERS"] = ("c5",)
    status = names["main"](["--images=2", "--classes=3", "--side=32", "--repeats=1"])
    whole, ours = (float(value) for value in re.findall(r"([\d.]+) ms", capsys.readouterr().out))
    assert whole > 0 and status == (ours > 3 * whole)
