import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import last_state, lines
from tiny import Rectangles, tiny_config

from jaxvision.train import loop, stages
from jaxvision.train.checkpoint import CheckpointError
from jaxvision.train.init import initialize, load_variables
from jaxvision.train.loop import fit


@pytest.fixture(autouse=True)
def rectangles(monkeypatch):
    """Every source is this one."""
    source = Rectangles()
    monkeypatch.setattr(loop, "open_source", lambda *_: source)
    return source


STILL = {"name": "sgd", "learning_rate": 0.0, "schedule": "constant"}
HEAD_THEN_ALL = (
    {"name": "head", "optimizer": {"trainable": "score"}, "steps": 3},
    {"name": "all", "init": ((".*", "head"),), "optimizer": STILL, "steps": 2},
)


def equal(a, b):
    return [np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]


def test_freeze_then_finetune(tmp_path, capsys):
    """The head alone, then everything from there; the second stage's rate is 0, so it ends where it began."""
    config = tiny_config("segmenter", architecture={"norm": "batch"}, stages=HEAD_THEN_ALL)
    scores = stages.run(config, str(tmp_path))
    head, both = (load_variables(str(tmp_path / name)) for name in ("head", "all"))
    fresh = loop.Run(tiny_config("segmenter", architecture={"norm": "batch"}), str(tmp_path / "fresh")).state
    assert all(equal(head["params"]["trunk"], fresh.params["trunk"]))
    assert not any(equal(head["params"]["score"]["kernel"], fresh.params["score"]["kernel"]))
    assert all(equal(both["params"], head["params"]))
    assert not any(equal(both["batch_stats"], head["batch_stats"]))  # which goes on from the first stage's
    assert last_state(tmp_path / "head")[0] == 3 and last_state(tmp_path / "all")[0] == 2
    report = json.loads((tmp_path / "all" / "init.json").read_text())
    assert len(report["loaded"]) == 7 and not report["fresh"] and not report["unused"]
    assert "init: 7 loaded, 0 fresh, 0 unused" in capsys.readouterr().out
    assert json.loads((tmp_path / "evaluation.json").read_text()) == scores
    assert json.loads((tmp_path / "all" / "finished.json").read_text()) == scores
    assert stages.run_directory(str(tmp_path)) == str(tmp_path / "all")


def test_a_finished_stage_is_not_done_again(tmp_path, capsys, monkeypatch):
    config = tiny_config("segmenter", stages=HEAD_THEN_ALL)
    scores = stages.run(config, str(tmp_path))
    done = []
    monkeypatch.setattr(
        stages, "fit", lambda config, directory, origins: done.append((directory, origins)) or {"v": {}}
    )
    assert stages.run(config, str(tmp_path)) == scores
    assert done == [] and capsys.readouterr().out.count("finished before") == 2
    (tmp_path / "all" / "finished.json").unlink()
    assert stages.run(config, str(tmp_path)) == {"v": {}}
    assert [os.path.basename(directory) for directory, _ in done] == ["all"]
    assert done[0][1]["head"] == str(tmp_path / "head")


def test_an_interrupted_stage_goes_on(tmp_path, monkeypatch):
    config = tiny_config("segmenter", stages=HEAD_THEN_ALL)

    def die(run):
        run.checkpoints.wait()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Run, "finish", die)
        stages.run(config, str(tmp_path))
    assert not (tmp_path / "head" / "finished.json").exists()
    stages.run(config, str(tmp_path))
    assert [line["step"] for line in lines(tmp_path / "head")] == [1, 2, 3]
    assert (tmp_path / "all" / "finished.json").exists()


def test_a_stage_fitted_on_the_host(tmp_path, monkeypatch):
    """A function of the architecture's file makes parameters, which the next stage takes."""
    import segmenter

    seen = {}

    def fit_scores(architecture, variables, source, directory, batches):
        seen.update(name=architecture.name, images=len(source), directory=directory)
        assert batches.seed is None and batches.source.name == source.name and batches.batch_size == 4
        kernel = np.full_like(variables["params"]["score"]["kernel"], 0.25)
        score = {**variables["params"]["score"], "kernel": kernel}
        return {**variables, "params": {**variables["params"], "score": score}}

    monkeypatch.setattr(segmenter, "fit_scores", fit_scores, raising=False)
    plan = (
        {"name": "first", "steps": 1},
        {"name": "host", "fit": "fit_scores", "init": ((".*", "first"),)},
        {"name": "last", "init": ((".*", "host"),), "optimizer": STILL, "steps": 1},
    )
    stages.run(tiny_config("segmenter", stages=plan), str(tmp_path))
    assert seen == {"name": "segmenter", "images": 16, "directory": str(tmp_path / "host")}
    first, host, last = (load_variables(str(tmp_path / stage["name"]))["params"] for stage in plan)
    assert np.all(host["score"]["kernel"] == 0.25)
    scores = json.loads((tmp_path / "host" / "finished.json").read_text())  # it is scored as a training is
    assert 0 < scores["validation"]["mean_iu"] < 1 and scores["validation"]["loss"] > 0
    assert json.loads((tmp_path / "host" / "evaluation.json").read_text()) == scores
    assert all(equal(host["trunk"], first["trunk"])) and all(equal(last, host))


def test_a_stage_may_name_what_is_not_there(tmp_path):
    plan = ({"name": "host", "fit": "fit_svms"},)
    with pytest.raises(ValueError, match="segmenter has no function 'fit_svms'"):
        stages.run(tiny_config("segmenter", stages=plan), str(tmp_path))


@pytest.mark.parametrize("names", [("a", "a"), ("a", None)])
def test_stages_need_names_of_their_own(tmp_path, names):
    plan = tuple({"name": name, "steps": 1} if name else {"steps": 1} for name in names)
    with pytest.raises(ValueError, match="needs a name of its own"):
        stages.run(tiny_config("segmenter", stages=plan), str(tmp_path))


def test_a_directory_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        stages.run_directory(str(tmp_path))


# Where parameters come from


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a run with BatchNorm."""
    directory = str(tmp_path_factory.mktemp("trained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "open_source", lambda *_: Rectangles())
        fit(tiny_config("segmenter", steps=1, architecture={"norm": "batch"}), directory)
    return directory


def ones_like(variables):
    return jax.tree.map(jnp.ones_like, variables)


def test_the_first_pattern_that_matches_counts(trained):
    saved = load_variables(trained)
    rules = (("score", "fresh"), (".*", "earlier"))
    variables, report = initialize(ones_like(saved), rules, {"earlier": trained})
    assert all(equal(variables["params"]["trunk"], saved["params"]["trunk"]))
    assert all(equal(variables["batch_stats"], saved["batch_stats"]))
    assert all(np.all(leaf == 1) for leaf in jax.tree.leaves(variables["params"]["score"]))
    assert sorted(report["fresh"]) == ["params/score/bias", "params/score/kernel"]
    assert set(report["loaded"]) == {
        "params/trunk/conv/kernel",
        "params/trunk/norm/norm/scale",
        "params/trunk/norm/norm/bias",
        "batch_stats/trunk/norm/norm/mean",
        "batch_stats/trunk/norm/norm/var",
    }
    assert sorted(report["unused"]) == [f"earlier: {name}" for name in sorted(report["fresh"])]


def test_what_no_pattern_finds_is_fresh(trained):
    variables, report = initialize(ones_like(load_variables(trained)), (("^trunk/conv", trained),))
    assert report["loaded"] == ["params/trunk/conv/kernel"]
    assert np.all(variables["params"]["score"]["kernel"] == 1)
    assert len(report["unused"]) == 6


def test_a_parameter_may_be_called_otherwise_where_it_comes_from(trained):
    saved = load_variables(trained)
    variables = ones_like({**saved, "params": {"copy": saved["params"]["trunk"], **saved["params"]}})
    variables, report = initialize(variables, (("^copy/", trained, "trunk/"), ("^score/", trained)))
    equal = jax.tree.map(np.array_equal, variables["params"]["copy"], saved["params"]["trunk"])
    assert all(jax.tree.leaves(equal)) and "params/copy/conv/kernel" in report["loaded"]
    assert np.all(variables["params"]["trunk"]["conv"]["kernel"] == 1)
    with pytest.raises(ValueError, match=r"params/tronc/conv/kernel: wanted .* has None"):
        initialize(variables, (("^copy/", trained, "tronc/"),))


def test_another_shape_or_a_missing_parameter_is_an_error(trained):
    variables = ones_like(load_variables(trained))
    variables["params"]["score"]["kernel"] = jnp.ones((1, 1, 8, 9))
    variables["params"]["neck"] = {"kernel": jnp.ones(3)}
    with pytest.raises(ValueError, match="2 parameters cannot be loaded") as caught:
        initialize(variables, ((".*", trained),))
    assert "params/score/kernel: wanted (1, 1, 8, 9)" in str(caught.value) and "has (1, 1, 8, 4)" in str(caught.value)
    assert "params/neck/kernel: wanted (3,)" in str(caught.value) and "'fresh'" in str(caught.value)


@pytest.mark.parametrize("rules", [(("neck", "fresh"),), (("trunk", "fresh"), ("trunk/conv", "DIRECTORY"))])
def test_idle_patterns_are_an_error(trained, rules):
    rules = tuple((pattern, trained if origin == "DIRECTORY" else origin) for pattern, origin in rules)
    with pytest.raises(ValueError, match=f"{rules[-1][0]}'.* find no parameter"):
        initialize(ones_like(load_variables(trained)), rules)


def test_an_origin_that_is_no_run_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoints in"):
        fit(tiny_config("segmenter", init=((".*", str(tmp_path / "nowhere")),)), str(tmp_path / "run"))
