"""Tables of weak supervision: every run can be planned, and the pages hold what was measured."""

import json
import pathlib
import runpy
import sys

import jax
import numpy as np
import pytest
from claims import keep, measured, place, recipe, shortened

from jaxvision import config as configs
from jaxvision import create, tasks
from jaxvision.batch import blank

ROOT = pathlib.Path(__file__).parents[1]
FIT = "jaxvision.models.weak.pseudo_labels:fit_pseudo_labels"


@pytest.fixture(scope="module")
def amounts():
    return runpy.run_path(str(ROOT / "benchmarks" / "weak_supervision.py"))


@pytest.fixture(scope="module")
def claims():
    return runpy.run_path(str(ROOT / "benchmarks" / "weak_claims.py"))


def architectures_of(config):
    """Those of a config's stages, made; a stage's options go upon the config's. Classifiers of fewer blocks score, too."""
    for stage in config.stages or ({},):
        own = configs.override(config, {"architecture": stage.get("architecture", {})})
        options = own.architecture.to_dict()
        architecture = create(options.pop("name"), num_classes=7, **options)
        if architecture.name == "vgg":
            batch = blank(tasks.get(architecture.task).fields, config.data.canvas, classes=7)
            variables = jax.eval_shape(architecture.init, jax.random.key(0), batch)
            assert jax.eval_shape(architecture.model.apply, variables, batch)["logits"].shape == (1, 7)
        yield architecture


def test_a_shortened_recipe_keeps_its_stages():
    config = configs.default()
    config.architecture.name, config.steps, config.optimizer.warmup = "fcn8s", 1000, 100
    config.stages = (
        {"name": "a", "steps": 400, "evaluate": {"every": 400, "metric": "loss"}, "optimizer": {"learning_rate": 0.1}},
        {"name": "b", "fit": "function"},
        {"name": "c", "optimizer": {"warmup": 50}},
    )
    first, host, last = shortened(config, 0.1).stages
    assert first["steps"] == first["checkpoint"]["every"] == 40
    assert first["evaluate"] == {"every": 40, "metric": "loss"}
    assert first["optimizer"] == {"learning_rate": 0.1, "warmup": 20}
    assert host == {"name": "b", "fit": "function"}
    assert last["steps"] == 100 and last["optimizer"] == {"warmup": 50}
    assert shortened(config, 0.1).optimizer.warmup == 50 and shortened(config, 1e-9).steps == 2


def test_every_amount_of_weakness_can_be_planned(amounts):
    for name, run in amounts["RUNS"].items():
        config = amounts["plan"](name, 3, 0.5)
        configs.check(config)
        assert config.seed == 3 and not config.data.test
        weak = config.data.weak.to_dict()
        if name == amounts["IMAGES"]:
            assert weak == {"inexact": {"level": "image"}} and config.stages[-1]["data"]["pseudo_labels"] == "labels"
            whole = amounts["plan"]("segmentation, all labels", 3, 0.5)
            assert config.stages[-1]["steps"] == whole.steps
            assert config.stages[-1]["architecture"] == whole.architecture.to_dict()
        else:
            assert weak.keys() == run.weak.keys()
            assert all(weak[kind]["seed"] == 3 for kind in weak if kind != "inexact")
        *_, last = architectures_of(config)
        metric = amounts["TASKS"][run.task].metric
        assert {"classification": "top1", "detection": "box/AP50", "segmentation": "mean_iu"}[last.task] == metric
    for _, better, worse, metric in amounts["CLAIMS"]:
        assert {better, worse} <= amounts["RUNS"].keys() and metric == "score"
    assert set(amounts["QUICKLY"]) <= amounts["RUNS"].keys()


def test_the_table_of_amounts_holds_what_was_measured(amounts):
    scores = {"all labels": 0.8, "10% labelled": 0.4, "40% wrong": 0.7}
    found = {
        f"classification, {amount}": {"score": np.array([score, score + 0.02]), "seconds": np.array([9, 11])}
        for amount, score in scores.items()
    }
    lines = amounts["report"](found)
    assert "| classification (top1) | incomplete | 10% labelled | 0.4100 ± 0.0141 | 51% | 10 |" in lines
    text = "\n".join(lines)
    assert "| classification: noisy labels over few clean ones | classification, 40% wrong |" in text
    assert text.count("| holds |") == 3 and "detection" not in text and "segmentation" not in text


def test_every_claim_can_be_planned(claims, tmp_path):
    for name, entry in claims["ENTRIES"].items():
        if entry.of:
            assert entry.of in claims["ENTRIES"] and entry.look
            continue
        config = claims["plan"](name, 2, 0.5, tmp_path)
        configs.check(config)
        assert config.seed == 2
        kinds = [architecture.task for architecture in architectures_of(config)]
        assert all(kind in tasks.TASKS for kind in kinds)
    with_crf, without = (claims["plan"](claims[name], 2, 0.5, tmp_path) for name in ("CRF", "PLAIN"))
    *_, labels, segment = with_crf.stages
    assert labels["settings"]["crf"] and labels["fit"] == FIT
    assert [stage["name"] for stage in without.stages] == ["labels", "segment"]
    assert without.stages[0]["init"] == ((".*", str(place(tmp_path, claims["CRF"], 2) / "classify")),)
    assert "crf" not in without.stages[0]["settings"] and without.stages[1] == segment
    masks = claims["plan"](claims["MASKS"], 2, 0.5, tmp_path)
    assert not masks.stages and not masks.data.weak and masks.steps == segment.get("steps", with_crf.steps)
    assert masks.architecture == with_crf.architecture
    classify, head, both = claims["plan"]("frozen, then all", 2, 0.5, tmp_path).stages
    joint = claims["plan"]("boxes", 2, 0.5, tmp_path)
    assert classify["steps"] + head["steps"] + both["steps"] == joint.steps
    # A network of dense layers is compared without dropout and, which is fairer, with it (Lin et al., ICLR 2014).
    dense = [claims["plan"](name, 2, 0.5, tmp_path).architecture for name in ("flattened", "flattened, dropout")]
    assert [options.dropout for options in dense] == [0, 0.5]


@pytest.mark.parametrize(
    ("words", "stages"),
    [
        ("cam,crf", 4),
        ("cam,nocrf", 4),
        ("acol,crf", 4),
        ("gradcam,nocrf", 4),
        ("gradcam,sec", 4),
        ("sec", 4),
        ("masks", 0),
    ],
)
def test_the_words_of_the_weakly_supervised_recipe(words, stages):
    """Each choice makes its networks, from image-level labels alone unless it is the one with masks."""
    config = recipe("weakly_supervised_scenes", words)
    configs.check(config)
    made = list(architectures_of(config))
    assert len(config.stages) == stages and made[-1].task == "segmentation"
    assert bool(config.data.weak) == (words != "masks")
    if stages:
        seeds = next((word for word in ("acol", "gradcam") if word in words), "cam")
        assert {network.name for network in made[:-1]} == {"vgg" if seeds == "gradcam" else seeds}
        settings = config.stages[2]["settings"]
        assert ("crf" in settings) == ("nocrf" not in words and "sec" not in words)
        assert ("certain" in settings) == ("sec" in words) == ("loss" in config.architecture)
        assert settings.get("seeds", "maps") == ("gradcam" if seeds == "gradcam" else "maps")
    if "sec" in words:
        assert made[-1].losses.keywords["sec"]["foreground"] == pytest.approx(0.996 ** (1681 / 256))


def test_a_word_that_there_is_not():
    with pytest.raises(ValueError, match="There is no 'grabcut' to choose; there are acol, cam, crf, gradcam"):
        recipe("weakly_supervised_scenes", "cam,grabcut")


def test_every_claim_is_of_something_measured(claims):
    known = {*claims["KEPT"], "pointing", "gap", "labels"}
    for _, better, worse, metric in claims["CLAIMS"]:
        assert {better, worse} <= claims["ENTRIES"].keys() and metric in known
    shown = {name for names, _ in claims["TABLES"].values() for name in names}
    assert shown == claims["ENTRIES"].keys()


def test_the_rate_that_does_best_on_held_out_images_counts(claims, tmp_path, monkeypatch):
    """And its score is that of the other images."""
    from jaxvision.train import stages

    config = claims["plan"]("joints by L1", 0, 0.5, tmp_path)
    seen = []

    def run(config, directory):
        seen.append((config.data.train, config.data.validation, config.data.test, directory))
        rate = config.optimizer.learning_rate
        return {"validation": {"pck@0.2": -abs(rate - 3e-3)}, "test": {"pck@0.2": rate}}

    monkeypatch.setattr(stages, "run", run)
    scores, directory, rate = claims["chosen"](config, claims["RATES"], tmp_path)
    assert rate == 3e-3 and scores == {"pck@0.2": 3e-3}
    assert {row[:3] for row in seen} == {("train[:90%]", "train[90%:]", "validation")}
    assert len({row[3] for row in seen}) == len(claims["RATES"]) and str(directory) == seen[1][3]
    few = configs.override(config, {"data": {"train": claims["FEW"]}})
    claims["chosen"](few, (1e-3,), tmp_path)
    assert seen[-1][:3] == (claims["FEW"], "train[90%:]", "validation")


def test_the_tables_of_weak_claims_hold_what_was_measured(claims):
    def of(**values):
        return {name: np.array([value, value]) for name, value in {**values, "seconds": 5.0}.items()}

    found = {
        "CAM": of(**{"loc/gt_known": 0.5, "max_box_acc_v2": 0.6}),
        "boxes": {
            "loc/gt_known": np.array([0.8, 0.9]),
            "max_box_acc_v2": np.array([0.5, 0.7]),
            "seconds": np.array([1]),
        },
        "Grad-CAM": of(pointing=0.9, apart=1e-7),
        "GAP": of(top1=0.7, gap=0.1, parameters=1234567.0),
        "joints by L1": {"pck@0.2": np.array([0.5, 0.6]), "rate": np.array([1e-3, 3e-3]), "seconds": np.array([1, 1])},
    }
    lines = claims["report"](found)
    assert "| supervised boxes over maps | boxes | CAM | loc/gt_known | +0.3500 | 0.0707 | holds |" in lines
    assert "| and at the best threshold | boxes | CAM | max_box_acc_v2 | +0.0000 | 0.1414 | undecided |" in lines
    assert any("differ by 1.0e-07 of the largest, so it holds" in line for line in lines)
    assert "| GAP | 1,234,567 | 0.7000 ± 0.0000 | 0.1000 ± 0.0000 | - | 5 |" in lines
    assert "| joints by L1 | 0.5500 ± 0.0707 | 0.001, 0.003 | 1 |" in lines
    assert not any("ACoL" in line for line in lines)
    found["Grad-CAM"]["apart"] = np.array([0.1, 0.2])
    assert any("so it does not hold" in line for line in claims["report"](found))


def test_the_command_goes_on_and_writes_its_part_only_in_full(tmp_path, monkeypatch, capsys):
    """--quick prints alone; what a worker finds is kept and not measured again."""
    import claims as module

    written, ran = [], []
    monkeypatch.setattr(module, "write_part", lambda title, lines: written.append((title, lines)))

    def run_all(script, own, runs, names, seeds):
        for seed in range(seeds):
            for name in names:
                if measured(runs, name, seed) is None:
                    ran.append((name, seed, tuple(own)))
                    keep(runs, name, seed, {"score": len(name) + seed})

    monkeypatch.setattr(module, "run_all", run_all)

    def command(*arguments, once=()):
        module.command(
            "usage", "script.py", "Title", ["aa", "bbb"], ["aa"], 0.1, None, lambda found: [json.dumps(
                {name: of["score"].tolist() for name, of in found.items()})], lambda seeds, share: [f"{seeds} {share:g}"],
            str(tmp_path), arguments, once,
        )  # fmt: skip

    command("--quick", f"--runs={tmp_path}")
    assert capsys.readouterr().out == '{"aa": [2]}\n' and not written
    assert ran == [("aa", 0, ("--share=1.0", f"--runs={tmp_path}", "--quick"))]
    command("--seeds=2", f"--runs={tmp_path}")
    assert written == [("Title", ["2 1", "", '{"aa": [2, 3], "bbb": [3, 4]}'])] and len(ran) == 5
    command("--seeds=2", "--only=b", f"--runs={tmp_path}")
    assert len(ran) == 5 and len(written) == 1
    command("--seeds=3", f"--runs={tmp_path}", once=("aa",))
    assert written[1] == ("Title", ["3 1", "", '{"aa": [2], "bbb": [3, 4, 5]}']) and len(ran) == 6


def test_a_worker_keeps_what_it_finds(tmp_path, monkeypatch):
    import claims as module

    def work(name, seed, share, folder, quick):
        return {"score": seed + share, "quick": float(quick)}

    module.command("", "", "", ["a"], ["a"], 0.1, work, None, None, str(tmp_path), ["--worker", "a", "2"])
    assert measured(tmp_path / "share1", "a", 2) == {"score": 3.0, "quick": 0.0}
    arguments = ["--quick", "--worker", "a", "2"]
    module.command("", "", "", ["a"], ["a"], 0.1, work, None, None, str(tmp_path), arguments)
    assert measured(tmp_path / "quick", "a", 2) == {"score": 2.1, "quick": 1.0}
    assert str(ROOT) in sys.path
