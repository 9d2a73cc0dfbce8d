"""Predictions and losses over a whole source, scored by its task."""

from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxvision import tasks
from jaxvision.architecture import Architecture
from jaxvision.data.loader import Batches, load
from jaxvision.train import sharding


def make_eval_step(architecture: Architecture):
    """A jitted (variables, batch) -> (predictions, loss terms): in evaluation mode both, so a validation loss is no
    special case. Without the task's fields in the batch there are no terms."""
    fields = tasks.get(architecture.task).fields

    def eval_step(variables, batch):
        outputs = architecture.model.apply(variables, batch, train=False)
        terms = architecture.losses(outputs, batch) if all(name in batch for name in fields) else {}
        return architecture.predict(outputs, batch), terms

    return jax.jit(eval_step)


def results(eval_step, variables, task: tasks.Task, batches: Batches, mesh) -> Iterator[tuple]:
    """(image_id, result in original pixels, the batch's loss terms on its first row, else {}) of every real image.

    On several hosts each gets the results of all.
    """
    for batch, host in sharding.prefetch(load(batches), mesh):
        predictions, terms = eval_step(variables, batch)
        rows = {**predictions, "real": batch["real"], "image_size": batch["image_size"]}
        if jax.process_count() > 1:
            rows = multihost_utils.process_allgather(rows, tiled=True)
            host = {name: _of_all_hosts(value) for name, value in host.items()}
        rows, terms = jax.device_get((rows, terms))
        for i in np.flatnonzero(rows["real"]):
            row = {name: value[i] for name, value in rows.items()}
            yield host["image_id"][i], task.result(row, row["image_size"], host["original_size"][i]), terms
            terms = {}


def _of_all_hosts(rows: np.ndarray) -> np.ndarray:
    """Every host's rows. They go as bytes: JAX would make 32 bits of an id's 64."""
    data = np.ascontiguousarray(rows[..., None]).view(np.uint8)
    return np.asarray(multihost_utils.process_allgather(data, tiled=True)).view(rows.dtype)[..., 0]


def evaluate(eval_step, variables, architecture: Architecture, batches: Batches, mesh, watch=None):
    """(scores by name, with the means of the losses as `loss/NAME`; the evaluator).

    watch: called with (image_id, result) of every image.
    """
    task = tasks.get(architecture.task)
    evaluator, sums = task.evaluator(batches.source), {}
    for image_id, result, terms in results(eval_step, variables, task, batches, mesh):
        evaluator.update(image_id, result)
        if watch is not None:
            watch(image_id, result)
        for name, (total, count) in terms.items():
            sums[name] = sums.get(name, 0) + np.array([total, count], np.float64)
    means = {name: float(total / max(count, 1)) for name, (total, count) in sums.items()}
    loss = sum(architecture.weights.get(name, 1.0) * mean for name, mean in means.items())
    return evaluator.compute() | {f"loss/{name}": mean for name, mean in means.items()} | {"loss": loss}, evaluator
