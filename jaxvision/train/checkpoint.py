"""Checkpoints: the state and what it was trained with, saved in the background, the last few and the best kept."""

import os

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from jaxvision.train.optimizer import path_name
from jaxvision.train.state import TrainState

LOWER_IS_BETTER = ("loss", "error")


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or belongs to something else."""


def score(metrics: dict, name: str) -> float:
    """The metric by which checkpoints are ranked, higher is better."""
    return -metrics[name] if any(part in name for part in LOWER_IS_BETTER) else metrics[name]


class Checkpoints:
    """The checkpoints of one directory.

    keep: how many of the latest stay; the best by `metric` (a name in the metrics given to `save`) stays beside them.
    Raises PermissionError or OSError where the directory cannot be written.
    """

    def __init__(self, directory: str, *, keep: int = 2, metric: str = "", read_only: bool = False):
        self.directory = os.path.abspath(directory)
        if not read_only:
            os.makedirs(self.directory, exist_ok=True)
        policies = [managers.LatestN(keep)]
        if metric:
            rank = lambda metrics: score(metrics, metric)  # noqa: E731
            policies.append(managers.BestN(get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False))
        self.metric = metric
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy(policies),
            best_fn=(lambda metrics: score(metrics, metric)) if metric else None,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
        try:
            self._manager = ocp.CheckpointManager(self.directory, item_handlers=handlers, options=options)
        except ValueError as error:
            raise CheckpointError(
                f"The scores kept in {self.directory}/*/metrics cannot all be read ({error}): a checkpoint there, most likely "
                "the newest, is damaged. Delete its folder: the run then goes on from the one before it."
            ) from error

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step of the best checkpoint by the metric, else of the latest."""
        best = self._manager.best_step() if self.metric else None
        return self.latest() if best is None else best

    def save(
        self, state: TrainState, meta: dict, metrics: dict[str, float] | None = None, *, again: bool = False
    ) -> None:
        """Starts saving; returns once the state is copied. A step that is saved already is only replaced when `again`."""
        step = int(state.step)
        if step in self._manager.all_steps():
            if not again:
                return
            self._manager.delete(step)
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        ranked = {self.metric: float(metrics[self.metric])} if metrics and self.metric in metrics else None
        self._manager.save(step, args=items, metrics=ranked, force=True)

    def meta(self, step: int) -> dict:
        """What the checkpoint was trained with. Raises CheckpointError where it cannot be read."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
        except Exception as error:
            raise self._damaged(step, error) from error

    def restore(self, like: TrainState, step: int) -> TrainState:
        """The state of a step, with shapes, dtypes and placement as in `like`.

        Raises CheckpointError where the checkpoint holds another model or cannot be read.
        """
        self._check_shapes(like, step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))).state
        except Exception as error:
            raise self._damaged(step, error) from error

    def restore_variables(self, step: int) -> dict:
        """{"params": ..., and the other collections} as numpy, averaged parameters where the run kept them.

        However many devices there were: the arrays come whole to this host.
        """
        try:
            saved = self._manager.item_metadata(step).state.tree
            abstract = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), saved)
            state = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))).state
        except Exception as error:
            raise self._damaged(step, error) from error
        averaged = _find(state["opt_state"], "averaged")
        return {"params": state["params"] if averaged is None else averaged, **(state["stats"] or {})}

    def _check_shapes(self, like: TrainState, step: int) -> None:
        """A missing, unexpected or differently shaped array is named before anything is read."""
        try:
            saved = _shapes(self._manager.item_metadata(step).state.tree)
        except Exception as error:
            raise self._damaged(step, error) from error
        wanted = _shapes(like)
        wrong = [
            f"{name}: saved {saved.get(name)}, wanted {wanted.get(name)}"
            for name in {**wanted, **saved}
            if saved.get(name) != wanted.get(name)
        ]
        if wrong:
            what = "model" if any(name.startswith(("params", "stats")) for name in wrong) else "optimizer"
            raise CheckpointError(
                f"The checkpoint {self._path(step)} is of another {what}: {len(wrong)} arrays differ, "
                f"e.g. {'; '.join(wrong[:3])}. Take another --workdir, or the config that it was made with."
            )

    def _damaged(self, step: int, error: Exception) -> CheckpointError:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return CheckpointError(
            f"The checkpoint {self._path(step)} cannot be read ({reason}). If it is damaged, delete that folder: the run "
            "then goes on from the checkpoint before it."
        )

    def _path(self, step: int) -> str:
        return os.path.join(self.directory, str(step))

    def wait(self) -> None:
        """Until everything is on the disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


def _shapes(tree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path): leaf.shape for path, leaf in leaves}


def _find(tree, name: str):
    """The first value under the key `name` anywhere in nested dicts and lists, or None."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    for key, value in children:
        if key == name:
            return value
        found = _find(value, name)
        if found is not None:
            return found
    return None
