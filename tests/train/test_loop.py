import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import assert_same_state, last_state, lines
from tiny import Rectangles, tiny_config

from jaxvision.data import collate
from jaxvision.tasks import segmentation
from jaxvision.train import loop
from jaxvision.train.checkpoint import CheckpointError
from jaxvision.train.loop import NonFiniteError, Run, fit
from jaxvision.train.signals import Interrupted, Signals


class StopAt(Signals):
    """A SIGTERM that comes at one step."""

    def __init__(self, step):
        self.step, self.number = step, 15

    def caught(self, step):
        return step == self.step


@pytest.fixture
def rectangles(monkeypatch):
    """Runs read this source, whatever their config names."""
    source = Rectangles()
    monkeypatch.setattr(loop, "open_source", lambda *_: source)
    return source


RESTLESS = dict(
    steps=10,
    architecture={"norm": "batch", "dropout": 0.3},
    optimizer={"name": "adam", "accumulate": 2, "ema": 0.9, "warmup": 2, "clip": 1.0},
    data={"transforms": {"flip": {}, "crop": {"height": 100, "width": 100}}},
)


@pytest.mark.parametrize("workers", [(0, 0), (2, 1)])
def test_ten_steps_are_five_and_a_restart_and_five(scenes_dir, tmp_path, workers):
    """Bit for bit: parameters, statistics, moments, the half of an accumulated step and the average."""

    def config(count):
        config = tiny_config("segmenter", scenes_dir, **RESTLESS)
        config.data.workers = count
        return config

    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    scores = fit(config(0), whole)
    with pytest.raises(Interrupted) as caught:
        Run(config(workers[0]), parts).train(StopAt(5))
    assert caught.value.code == 143
    assert last_state(parts)[0] == 5
    assert fit(config(workers[1]), parts) == scores
    assert_same_state(whole, parts)
    wanted, got = lines(whole), lines(parts)
    assert [line["step"] for line in got] == list(range(1, 11))
    assert [line["loss"] for line in got] == [line["loss"] for line in wanted]


def test_a_finished_run_is_only_scored_again(scenes_dir, tmp_path, capsys):
    config = tiny_config("segmenter", scenes_dir, data={"test": "test"})
    first = fit(config, str(tmp_path))
    assert set(first) == {"validation", "test"} and first["test"] != first["validation"]
    before = last_state(tmp_path)
    assert fit(config, str(tmp_path)) == first == json.loads((tmp_path / "evaluation.json").read_text())
    assert last_state(tmp_path)[0] == before[0]
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]
    assert "going on from step 4" in capsys.readouterr().out


def test_evaluation_on_a_canvas_of_its_own(scenes_dir, tmp_path):
    """Crops to learn from, whole images to be scored on: as a run without crops scores the same parameters."""
    crop = {"canvas": (64, 96), "transforms": {"crop": {"height": 64, "width": 96}}}
    config = tiny_config("segmenter", scenes_dir, data=crop, evaluate={"canvas": (128, 128), "batch_size": 3})
    run = Run(config, str(tmp_path))
    assert run.batches.canvases == [(64, 96)] and run.batches.batch_size == config.batch_size
    assert run.validation.canvases == [(128, 128)] and run.validation.batch_size == 3
    with Signals() as signals:
        run.train(signals)
    assert run.train_step._cache_size() == run.eval_step._cache_size() == 1
    found = run.finish()["validation"]
    config.data.canvas, config.data.transforms, config.evaluate.batch_size = (128, 128), {}, 0
    whole = Run(config, str(tmp_path)).finish()["validation"]
    assert found.keys() == whole.keys() and all(np.isclose(found[k], whole[k], atol=1e-5) for k in found)


def test_a_killed_run_leaves_no_step_twice(scenes_dir, tmp_path):
    """Steps after the last checkpoint, and half a line, are in metrics.jsonl when the process dies."""
    config = tiny_config("segmenter", scenes_dir, steps=6, checkpoint={"every": 2}, evaluate={"every": 2})
    with pytest.raises(Interrupted):
        Run(config, str(tmp_path)).train(StopAt(4))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "time": 1.0, "loss": 3.0}\n{"step": 6, "ti')
    fit(config, str(tmp_path))
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert lines(tmp_path)[4]["loss"] != 3.0
    assert [line["step"] for line in lines(tmp_path, "validation/mean_iu")] == [
        2,
        4,
        6,
    ]  # that of step 4 is made up for


def test_nan_stops_the_run_and_says_where(rectangles, tmp_path, monkeypatch):
    import segmenter

    config = tiny_config("segmenter", steps=8, checkpoint={"every": 2})
    config.architecture.norm = "batch"
    good = Run(config, str(tmp_path / "good"))
    bad_batch = good.batches[4]  # the fifth step's
    mark = int(bad_batch["semantic"].astype(np.int64).sum())
    assert mark not in [int(good.batches[t]["semantic"].astype(np.int64).sum()) for t in (0, 1, 2, 3, 5, 6, 7)]

    def losses(outputs, batch):
        terms = original(outputs, batch)
        broken = jnp.where(batch["semantic"].sum() == mark, jnp.nan, 0.0)
        return {**terms, "extra": (broken, jnp.ones(()))}

    original = segmenter.segmentation_losses
    monkeypatch.setattr(segmenter, "segmentation_losses", losses)
    run = Run(config, str(tmp_path / "bad"))
    with pytest.raises(NonFiniteError) as caught, Signals() as signals:
        run.train(signals)
    message = str(caught.value)
    assert "Step 5: loss/extra is not finite" in message
    assert str(bad_batch["image_id"].tolist()) in message
    assert "last good checkpoint is step 4" in message and str(tmp_path / "bad") in message
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((run.state.params, run.state.stats)))
    assert lines(tmp_path / "bad")[-1]["step"] == 4

    monkeypatch.setattr(segmenter, "segmentation_losses", original)
    going_on = Run(config, str(tmp_path / "bad"))
    assert going_on.step == 4
    with Signals() as signals:
        going_on.train(signals)
        good.train(signals)
    going_on.finish()
    good.finish()
    assert_same_state(tmp_path / "good", tmp_path / "bad")


def test_nan_in_the_last_step_is_not_saved(rectangles, tmp_path):
    config = tiny_config(
        "segmenter", steps=3, checkpoint={"every": 2}, optimizer={"name": "sgd", "learning_rate": 1e38}
    )
    run = Run(config, str(tmp_path))
    with pytest.raises(NonFiniteError, match=r"Step [23]: "), Signals() as signals:
        run.train(signals)
    assert run.checkpoints.latest() in (None, 2)


def test_one_compilation_for_each_canvas(tmp_path, monkeypatch):
    sizes = ((64, 64), (64, 96)) * 8
    monkeypatch.setattr(loop, "open_source", lambda *_: Rectangles(sizes=sizes))
    for canvases in ([(64, 64)], [(64, 64), (64, 96)]):
        config = tiny_config("segmenter", steps=6, data={"canvas": tuple(canvases)}, evaluate={"every": 3})
        run = Run(config, str(tmp_path / str(len(canvases))))
        with Signals() as signals:
            run.train(signals)
        run.finish()
        assert run.train_step._cache_size() == len(canvases)
        assert run.eval_step._cache_size() == len(canvases)
        shapes = {run.batches[t]["image"].shape[1:3] for t in range(6)}
        assert shapes == set(canvases)


def test_patience(rectangles, tmp_path, monkeypatch, capsys):
    quality = iter([0.2, 0.5, 0.4, 0.3, 0.9])
    monkeypatch.setattr(Run, "_scores", lambda *_: {"mean_iu": next(quality), "loss": 1.0})
    config = tiny_config("segmenter", steps=10, evaluate={"every": 2, "patience": 2})
    scores = fit(config, str(tmp_path))
    assert scores["validation"]["mean_iu"] == 0.5
    assert [line["step"] for line in lines(tmp_path, "validation/mean_iu")] == [2, 4, 6, 8]
    assert "No better mean_iu in 2 evaluations" in capsys.readouterr().out
    assert lines(tmp_path)[-1]["step"] == 8


def test_patience_remembers_the_scores_of_before_a_restart(rectangles, tmp_path, monkeypatch):
    quality = iter([0.5, 0.4, 0.3])
    monkeypatch.setattr(Run, "_scores", lambda *_: {"mean_iu": next(quality), "loss": 1.0, "iu/none": float("nan")})
    first = tiny_config("segmenter", steps=4, evaluate={"every": 2, "patience": 2})
    fit(first, str(tmp_path))
    longer = tiny_config("segmenter", steps=10, evaluate={"every": 2, "patience": 2})
    scores = fit(longer, str(tmp_path))
    assert scores["validation"]["mean_iu"] == 0.5 and np.isnan(scores["validation"]["iu/none"])
    assert [line["step"] for line in lines(tmp_path, "validation/mean_iu")] == [2, 4, 6]


def test_a_run_stopped_at_an_evaluation_makes_up_for_it(rectangles, tmp_path, monkeypatch):
    quality = iter([0.9, 0.5])
    monkeypatch.setattr(Run, "_scores", lambda *_: {"mean_iu": next(quality), "loss": 1.0})
    config = tiny_config("segmenter", steps=4, evaluate={"every": 2})
    run = Run(config, str(tmp_path))
    with pytest.raises(Interrupted):
        run.train(StopAt(2))
    assert lines(tmp_path, "validation/mean_iu") == []
    run.checkpoints.close()
    going_on = Run(config, str(tmp_path))
    with Signals() as signals:
        going_on.train(signals)
    going_on.finish()
    assert [line["step"] for line in lines(tmp_path, "validation/mean_iu")] == [2, 4]
    assert int(going_on.state.step) == 2


def test_the_best_checkpoint_is_what_is_scored_at_the_end(rectangles, tmp_path, monkeypatch):
    config = tiny_config("segmenter", steps=6, evaluate={"every": 2}, checkpoint={"every": 6, "keep": 1})
    quality = iter([0.2, 0.5, 0.3])
    monkeypatch.setattr(Run, "_scores", lambda *_: {"mean_iu": next(quality), "loss": 1.0})
    run = Run(config, str(tmp_path))
    with Signals() as signals:
        run.train(signals)
    run.finish()
    assert int(run.state.step) == 4
    kept = sorted(name for name in os.listdir(tmp_path / "checkpoints") if name.isdigit())
    assert kept == ["4", "6"]


def test_a_metric_that_is_no_score_is_an_error(rectangles, tmp_path):
    config = tiny_config("segmenter", evaluate={"metric": "mean_ui"})
    with pytest.raises(ValueError, match=r"'mean_ui' is not among the scores: .*mean_iu"):
        fit(config, str(tmp_path))


def test_a_directory_of_another_model_is_not_taken_over(rectangles, tmp_path):
    fit(tiny_config("segmenter", steps=1), str(tmp_path))
    other = tiny_config("segmenter", steps=2, architecture={"norm": "batch"})
    with pytest.raises(CheckpointError, match=r"trunk/norm.*--workdir"):
        fit(other, str(tmp_path))


def test_a_damaged_checkpoint_can_be_deleted(rectangles, tmp_path):
    config = tiny_config("segmenter", checkpoint={"every": 2})
    fit(config, str(tmp_path))
    wanted = last_state(tmp_path)[1]
    folder = tmp_path / "checkpoints" / "4"
    for place, _, files in os.walk(folder):
        for name in files:
            os.truncate(os.path.join(place, name), os.path.getsize(os.path.join(place, name)) // 2)
    with pytest.raises(CheckpointError, match=r"(?s)the newest, is damaged. Delete its folder") as caught:
        fit(config, str(tmp_path))
    assert str(tmp_path / "checkpoints") in str(caught.value)
    folder.rename(tmp_path / "gone")
    fit(config, str(tmp_path))
    jax.tree.map(np.testing.assert_array_equal, last_state(tmp_path)[1], wanted)


@pytest.mark.parametrize(
    ("flat", "name", "count", "told"),
    [
        (0, "overflow", 8, "8 objects beyond data.max_boxes 2 were left out"),
        (1000, "lost_boxes", 24, "24 objects of no width or height on the canvas were not learnt from"),
    ],
)
def test_what_is_not_learnt_from_is_told(flat, name, count, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "open_source", lambda *_: Rectangles(counts=(3,)))
    monkeypatch.setattr(collate, "FLAT", flat)

    task = dataclasses.replace(segmentation.SEGMENTATION, fields=("semantic", "boxes", "classes", "valid"))
    monkeypatch.setattr(loop.tasks, "get", lambda _: task)
    fit(tiny_config("segmenter", steps=2, data={"max_boxes": 2}), str(tmp_path))
    assert told in capsys.readouterr().out
    assert lines(tmp_path)[-1][f"data/{name}"] == count


def test_skipped_images_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "open_source", lambda *_: Rectangles(broken=(1, 5)))
    fit(tiny_config("segmenter", data={"skip_bad": True}), str(tmp_path))
    assert "2 images could not be used and were passed over" in capsys.readouterr().out
    assert lines(tmp_path)[-1]["data/skipped"] == 2


def test_a_run_writes_what_it_says(rectangles, tmp_path, capsys):
    fit(tiny_config("segmenter"), str(tmp_path))
    out = capsys.readouterr().out
    assert "16 images of rectangles for training, 16 for validation; canvas 64x64" in out
    assert "steps: 4 of 4 images, 1.0 epochs" in out
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"checkpoints", "pictures", "tensorboard", "config.json", "metrics.jsonl", "evaluation.json"}
    pictures = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert len(pictures) == loop.PICTURES + 1 and "step_0000004_confusion.png" in pictures
    line = lines(tmp_path)[0]
    assert {"step", "time", "loss", "loss/pixel", "learning_rate", "norm/gradient"} <= set(line)


def test_a_batch_that_devices_cannot_share_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 3)
    with pytest.raises(ValueError, match="batch_size 4 cannot be divided among 3 devices: take a multiple of 3"):
        Run(tiny_config("segmenter"), str(tmp_path))
