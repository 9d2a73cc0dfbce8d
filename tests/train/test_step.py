import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import Rectangles, tiny_config

from jaxvision import tasks
from jaxvision.data.loader import Batches
from jaxvision.train.loop import build_architecture
from jaxvision.train.optimizer import make_optimizer
from jaxvision.train.state import TrainState
from jaxvision.train.step import train_step, weigh

SGD = {"name": "sgd", "learning_rate": 0.1, "schedule": "constant"}


def make(batch_size=4, **changes):
    """(step, state, batch) of a tiny segmenter on pictures of rectangles, floats so that a test can put a NaN there."""
    source = Rectangles()
    config = tiny_config("segmenter", **{"optimizer": SGD, **changes})
    architecture, _ = build_architecture(config, source)
    fields = tasks.get(architecture.task).fields
    batch = Batches(source, batch_size=batch_size, fields=fields, canvases=[(64, 64)], seed=0)[0]
    batch = {name: batch[name] for name in ("image_size", "real", *fields)} | {
        "image": batch["image"] / np.float32(255)
    }
    variables = architecture.init(jax.random.key(0), batch)
    optimizer, _ = make_optimizer(config.optimizer, config.steps, variables["params"])
    step = jax.jit(functools.partial(train_step, architecture=architecture, optimizer=optimizer, seed=config.seed))
    return step, TrainState.create(variables, optimizer), batch


@pytest.fixture(scope="module")
def noisy():
    """With BatchNorm and dropout."""
    return make(architecture={"norm": "batch", "dropout": 0.5}, optimizer={**SGD, "ema": 0.9})


@pytest.fixture(scope="module")
def plain():
    return make()


def trees_equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def assert_close(actual, wanted, tolerance):
    """Each leaf to `tolerance` of its own scale."""
    for (path, a), w in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(wanted)):
        scale = max(np.abs(w).max(), 1e-3)
        np.testing.assert_allclose(a, w, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path))


def test_terms_are_means_weighted_and_added():
    terms = {
        "a": (jnp.array(6.0), jnp.array(3)),
        "b": (jnp.array(5.0), jnp.array(2)),
        "c": (jnp.array(0.0), jnp.array(0)),
    }
    loss, means = weigh(terms, {"b": 0.5})
    assert (float(means["a"]), float(means["b"]), float(means["c"])) == (2.0, 2.5, 0.0)
    assert float(loss) == 2 + 1.25


def test_a_step_moves_everything_and_tells_of_it(noisy):
    step, state, batch = noisy
    new, metrics = step(state, batch)
    assert int(new.step) == 1
    assert set(metrics) == {"loss", "loss/pixel", "norm/gradient", "norm/parameters", "norm/update"}
    moved = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(new.stats), jax.tree.leaves(state.stats))]
    assert all(moved)
    update = jax.tree.map(lambda a, b: a - b, new.params, state.params)
    norm = np.sqrt(sum(float((u**2).sum()) for u in jax.tree.leaves(update)))
    np.testing.assert_allclose(metrics["norm/update"], norm, 1e-4)
    np.testing.assert_allclose(metrics["norm/gradient"], norm / 0.1, 1e-4)


def test_randomness_is_a_function_of_seed_and_step(noisy):
    step, state, batch = noisy
    (one, metrics), (again, _) = step(state, batch), step(state, batch)
    assert trees_equal(one, again)
    _, later = step(state.replace(step=jnp.array(1, jnp.int32)), batch)
    assert float(metrics["loss"]) != float(later["loss"])


def test_what_is_not_finite_changes_nothing(noisy):
    step, state, batch = noisy
    state, _ = step(state, batch)
    image = batch["image"].copy()
    image[2, 5, 5] = np.nan
    same, metrics = step(state, {**batch, "image": image})
    assert np.isnan(metrics["loss"]) and np.isnan(metrics["loss/pixel"])
    assert int(same.step) == int(state.step) + 1
    assert trees_equal((same.params, same.stats, same.opt_state), (state.params, state.stats, state.opt_state))
    assert not trees_equal(step(state, batch)[0].params, state.params)


def test_rows_that_are_not_real_count_nowhere(plain):
    step, state, batch = plain
    two = {**batch, "real": np.array([True, True, False, False])}
    garbage = {**two, "semantic": np.where(np.arange(4)[:, None, None] < 2, two["semantic"], 3)}
    garbage["image"] = np.where(np.arange(4)[:, None, None, None] < 2, two["image"], 0.7).astype(np.float32)
    (one, _), (other, _) = step(state, two), step(state, garbage)
    assert_close(other.params, one.params, 1e-6)
    assert not trees_equal(one.params, step(state, batch)[0].params)


def test_two_half_batches_accumulated_are_one_batch(plain):
    step, state, batch = plain
    whole, _ = step(state, batch)
    half_step, half_state, _ = make(2, optimizer={**SGD, "accumulate": 2})
    for rows in (slice(0, 2), slice(2, 4)):
        half_state, _ = half_step(half_state, {name: value[rows] for name, value in batch.items()})
    assert_close(half_state.params, whole.params, 1e-5)
    assert not trees_equal(state.params, whole.params)


def test_remat_changes_no_gradient(plain):
    step, state, batch = plain
    wanted, _ = step(state, batch)
    remat_step, same, _ = make(remat=True)
    assert trees_equal(same.params, state.params)
    texts = [str(jax.make_jaxpr(function)(state, batch)) for function in (remat_step, step)]
    assert ["remat" in text for text in texts] == [True, False]
    assert_close(remat_step(state, batch)[0].params, wanted.params, 1e-5)


def test_frozen_parameters_keep_their_bits():
    changes = {**SGD, "trainable": "score", "weight_decay": 0.1, "clip": 1.0, "ema": 0.5}
    step, state, batch = make(optimizer=changes)
    start = state
    for _ in range(3):
        state, _ = step(state, batch)
    for (path, now), before in zip(jax.tree_util.tree_leaves_with_path(state.params), jax.tree.leaves(start.params)):
        frozen = "score" not in jax.tree_util.keystr(path)
        assert np.array_equal(now, before) == frozen, path


def test_a_bfloat16_trunk_trains_float32_parameters():
    step, state, batch = make(precision="bfloat16")
    assert "bf16" in str(jax.make_jaxpr(step)(state, batch))
    losses = []
    for _ in range(8):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert all(value.dtype == jnp.float32 for value in metrics.values())
    assert losses[-1] < 0.8 * losses[0]
