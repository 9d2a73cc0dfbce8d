"""What a run's directory holds, for tests that compare runs."""

import json
import os

import jax
import numpy as np
import orbax.checkpoint as ocp


def last_state(directory):
    """(step, the whole state of the latest checkpoint as nested dicts of numpy arrays)."""
    folder = os.path.join(os.path.abspath(directory), "checkpoints")
    step = max(int(name) for name in os.listdir(folder) if name.isdigit())
    with ocp.PyTreeCheckpointer() as checkpointer:
        path = os.path.join(folder, str(step), "state")
        tree = checkpointer.metadata(path).item_metadata.tree
        whole = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return step, checkpointer.restore(path, restore_args=whole)


def assert_same_state(a, b, tolerance=0.0):
    """The latest states of two runs are equal: bit for bit, or every leaf to `tolerance` of its own scale."""
    (step_a, a), (step_b, b) = last_state(a), last_state(b)
    assert step_a == step_b
    assert jax.tree.structure(a) == jax.tree.structure(b)

    def same(path, x, y):
        scale = tolerance * float(np.abs(x).max(initial=0))
        np.testing.assert_allclose(x, y, rtol=0, atol=scale, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(same, a, b)


def lines(directory, name="loss"):
    """The lines of metrics.jsonl that have a value of that name."""
    with open(os.path.join(directory, "metrics.jsonl")) as file:
        return [line for line in map(json.loads, file) if name in line]
