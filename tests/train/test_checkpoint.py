import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import tiny_config

from jaxvision.train import loop
from jaxvision.train.checkpoint import CheckpointError, Checkpoints
from jaxvision.train.init import load_variables
from jaxvision.train.optimizer import average_parameters
from jaxvision.train.state import TrainState

META = {"config": {"seed": 3}, "class_names": ["background", "disc"]}


def make_state(step=0, value=1.0, shape=(2, 3)):
    variables = {
        "params": {"conv": {"kernel": jnp.full(shape, value), "bias": jnp.arange(3.0)}},
        "batch_stats": {"norm": {"mean": jnp.full(3, value)}},
    }
    state = TrainState.create(variables, optax.chain(optax.adam(0.1), average_parameters(0.9)))
    return state.replace(step=jnp.array(step, jnp.int32))


def save(directory, steps, **options):
    """Checkpoints at `steps`, {step: metrics or None}."""
    checkpoints = Checkpoints(str(directory), **options)
    for step, metrics in steps.items():
        checkpoints.save(make_state(step, float(step)), META, metrics)
    checkpoints.wait()
    return checkpoints


def steps_on_disk(directory):
    return sorted(int(name) for name in os.listdir(directory) if name.isdigit())


def test_a_state_comes_back_bit_for_bit(tmp_path):
    state = make_state(7, 1 / 3)
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(state, META)
    checkpoints.wait()
    restored = Checkpoints(str(tmp_path)).restore(make_state(), 7)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert all(a.dtype == b.dtype for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state)))
    assert checkpoints.meta(7) == META


def test_the_latest_and_the_best_are_kept(tmp_path):
    quality = {1: 0.1, 2: 0.9, 3: 0.5, 4: 0.4, 5: 0.3}
    checkpoints = save(tmp_path, {s: {"mean_iu": q} for s, q in quality.items()}, keep=2, metric="mean_iu")
    assert steps_on_disk(tmp_path) == [2, 4, 5]
    assert (checkpoints.best(), checkpoints.latest()) == (2, 5)
    again = Checkpoints(str(tmp_path), keep=2, metric="mean_iu")
    assert (again.best(), again.latest()) == (2, 5)


def test_a_lower_loss_is_better(tmp_path):
    checkpoints = save(tmp_path, {s: {"loss": q} for s, q in {1: 3.0, 2: 1.0, 3: 2.0}.items()}, keep=1, metric="loss")
    assert checkpoints.best() == 2
    assert steps_on_disk(tmp_path) == [2, 3]


def test_checkpoints_between_evaluations_do_not_push_the_best_out(tmp_path):
    steps = {1: {"mean_iu": 0.5}, 2: None, 3: {"mean_iu": 0.2}, 4: None, 5: None}
    checkpoints = save(tmp_path, steps, keep=2, metric="mean_iu")
    assert steps_on_disk(tmp_path) == [1, 4, 5]
    assert checkpoints.best() == 1


def test_without_scores_the_best_is_the_latest(tmp_path):
    checkpoints = save(tmp_path, {1: None, 2: None}, metric="mean_iu")
    assert checkpoints.best() == 2


def test_a_step_is_saved_once(tmp_path):
    checkpoints = save(tmp_path, {3: None})
    checkpoints.save(make_state(3, 99.0), META)
    checkpoints.wait()
    assert checkpoints.restore(make_state(), 3).params["conv"]["kernel"][0, 0] == 3.0


def test_averaged_parameters_are_what_others_get(tmp_path):
    state = make_state(1, 2.0)
    state.opt_state[1].averaged["conv"]["kernel"] = jnp.full((2, 3), 5.0)
    checkpoints = Checkpoints(str(tmp_path / "checkpoints"))
    checkpoints.save(state, META)
    checkpoints.wait()
    variables = load_variables(str(tmp_path))
    assert variables["params"]["conv"]["kernel"][0, 0] == 5.0 == state.variables()["params"]["conv"]["kernel"][0, 0]
    assert variables["batch_stats"]["norm"]["mean"][0] == 2.0
    assert {type(leaf) for leaf in jax.tree.leaves(variables)} == {np.ndarray}


def test_another_model_is_named_by_its_parameters(tmp_path):
    checkpoints = save(tmp_path, {1: None})
    with pytest.raises(CheckpointError, match=r"conv/kernel: saved \(2, 3\), wanted \(2, 4\)") as caught:
        checkpoints.restore(make_state(shape=(2, 4)), 1)
    assert "--workdir" in str(caught.value) and str(tmp_path / "1") in str(caught.value)
    lacking = make_state()
    del lacking.params["conv"]["bias"]
    with pytest.raises(CheckpointError, match=r"conv/bias: saved \(3,\), wanted None"):
        checkpoints.restore(lacking, 1)


def test_another_optimizer_is_not_taken_for_damage(tmp_path):
    checkpoints = save(tmp_path, {1: None})
    other = TrainState.create(make_state().variables(), optax.sgd(0.1, 0.9))
    with pytest.raises(CheckpointError, match=r"of another optimizer: .* opt_state/0/trace/conv/kernel: saved None"):
        checkpoints.restore(other, 1)


@pytest.mark.parametrize("kind", ["cut", "emptied", "lost"])
def test_a_damaged_checkpoint_says_what_to_do(tmp_path, kind):
    save(tmp_path, {1: None, 2: None}).close()
    for folder, _, files in os.walk(tmp_path / "2"):
        for name in files:
            path = os.path.join(folder, name)
            if kind == "lost":
                os.remove(path)
            else:
                os.truncate(path, os.path.getsize(path) // 2 if kind == "cut" else 0)
    checkpoints = Checkpoints(str(tmp_path))
    step = checkpoints.latest()
    with pytest.raises(CheckpointError, match=f"{tmp_path / '2'} cannot be read .*delete that folder"):
        checkpoints.restore(make_state(), step)
    for read in (checkpoints.meta, checkpoints.restore_variables):
        with pytest.raises(CheckpointError, match="delete that folder"):
            read(step)


def test_half_written_data_alone_is_noticed(tmp_path):
    """Arrays are cut, all descriptions whole."""
    save(tmp_path, {2: None}).close()
    cut = [os.path.join(folder, name) for folder, _, names in os.walk(tmp_path / "2" / "state" / "d") for name in names]
    for path in cut:
        os.truncate(path, os.path.getsize(path) // 2)
    assert cut
    with pytest.raises(CheckpointError, match="delete that folder"):
        Checkpoints(str(tmp_path)).restore(make_state(), 2)


@pytest.mark.parametrize("make", [loop.prepare_directory, lambda path: loop.Run(tiny_config(), path)])
def test_a_workdir_that_cannot_be_written(tmp_path, make):
    """A file stands where the folder should be: not even root can write there."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(PermissionError, match=r"runs/a.*Not a directory.*take another"):
        make(str(tmp_path / "runs" / "a"))


def test_no_checkpoint_to_load(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoints in"):
        load_variables(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        load_variables(str(tmp_path))
