import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import Rectangles, tiny_config

from jaxvision import tasks
from jaxvision.data.loader import Batches
from jaxvision.train import evaluate as module
from jaxvision.train import sharding
from jaxvision.train.evaluate import evaluate, make_eval_step, results
from jaxvision.train.loop import build_architecture


@pytest.fixture(scope="module")
def parts():
    """(eval_step, variables, architecture, batches of a source whose last batch is not full)."""
    source = Rectangles(sizes=((64, 64), (32, 64), (64, 48)) * 2)
    architecture, _ = build_architecture(tiny_config("segmenter", architecture={"dropout": 0.5}), source)
    architecture = dataclasses.replace(architecture, weights={"pixel": 3.0})
    batches = Batches(source, batch_size=4, fields=("semantic",), canvases=[(64, 64)])
    variables = architecture.init(jax.random.key(0), batches[0])
    return make_eval_step(architecture), variables, architecture, batches


def test_every_image_is_scored_once_in_its_own_pixels(parts):
    eval_step, variables, architecture, batches = parts
    task = tasks.get(architecture.task)
    seen = {int(i): result for i, result, _ in results(eval_step, variables, task, batches, sharding.make_mesh())}
    assert list(seen) == [100 + i for i in range(6)]
    for i, result in enumerate(seen.values()):
        assert result["semantic"].shape == tuple(batches.source.sizes[i])


def test_losses_are_those_of_a_loop_over_single_images(parts):
    eval_step, variables, architecture, batches = parts
    scores, _ = evaluate(eval_step, variables, architecture, batches, sharding.make_mesh())
    total = count = 0
    for i in range(6):
        batch = Batches(batches.source, batch_size=1, fields=("semantic",), canvases=[(64, 64)])[i]
        logits = np.asarray(architecture.model.apply(variables, batch)["logits"], np.float64)
        keep = batch["semantic"] != 255
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        picked = np.take_along_axis(logs, np.where(keep, batch["semantic"], 0)[..., None], -1)[..., 0]
        total, count = total - picked[keep].sum(), count + keep.sum()
    assert scores["loss/pixel"] == pytest.approx(total / count, rel=1e-5)
    assert scores["loss"] == pytest.approx(3 * total / count, rel=1e-5)
    assert 0 < scores["pixel_accuracy"] < 1


def test_without_ground_truth_there_are_predictions_and_no_losses(parts):
    eval_step, variables, _, batches = parts
    batch = {name: batches[0][name] for name in ("image", "image_size", "real")}
    predictions, terms = eval_step(variables, batch)
    assert terms == {} and predictions["semantic"].shape == (4, 64, 64)


def test_ids_of_64_bits_come_whole_from_other_hosts(monkeypatch):
    def gather(rows, tiled):
        assert tiled
        return np.concatenate([np.asarray(jnp.asarray(rows))] * 2)

    monkeypatch.setattr(module.multihost_utils, "process_allgather", gather)
    ids = np.array([2**40 + 1, 7, -1])
    np.testing.assert_array_equal(module._of_all_hosts(ids), np.concatenate([ids, ids]))
    sizes = np.array([[3, 4], [5, 6]], np.int32)
    np.testing.assert_array_equal(module._of_all_hosts(sizes), np.concatenate([sizes, sizes]))
