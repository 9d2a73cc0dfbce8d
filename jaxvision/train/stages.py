"""Stages: one config, several trainings in a row, each from where another ended.

A stage overrides any part of the config and runs in DIR/NAME by the same loop and step; `init` says which parameters come
from which stage. A stage may instead name a function of the architecture's file,
`fit(architecture, variables, source, directory) -> variables`, that fits something on the host; where it has a parameter
`batches`, it is given the training images in order too, as the network sees them, and the stage's `settings` are further
arguments. A function of another file is named as "module:function". What it fits is scored as a training's end is. A finished
stage is marked and never done again.
"""

import importlib
import inspect
import json
import os

import jax
import jax.numpy as jnp
import optax

from jaxvision import architecture as architectures
from jaxvision import config as configs
from jaxvision.suggest import suggest
from jaxvision.train.logging import say, write_json
from jaxvision.train.loop import Run, fit, make_batches, prepare_directory
from jaxvision.train.state import TrainState


def run(config, directory: str) -> dict[str, dict[str, float]]:
    """Trains a config, stage by stage where it has stages, and returns the last one's scores {split: {metric: value}}.

    Raises ValueError for stages without a name or with the same one; and what `fit` raises.
    """
    configs.check(config)
    if not config.stages:
        return fit(config, directory)
    names = [stage.get("name") for stage in config.stages]
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"Every stage needs a name of its own, got {names}.")
    prepare_directory(directory)
    if jax.process_index() == 0:
        write_json(os.path.join(directory, "config.json"), config.to_dict())
    directories, scores = {}, {}
    for stage in config.stages:
        name = stage["name"]
        directories[name] = os.path.join(directory, name)
        marker = os.path.join(directories[name], "finished.json")
        if os.path.exists(marker):
            with open(marker) as file:
                scores = json.load(file)
            say(f"stage {name}: finished before")
            continue
        say(f"stage {name}")
        changes = {k: v for k, v in stage.items() if k not in ("fit", "settings")}
        stage_config = configs.override(config, {**changes, "stages": ()})
        labels = stage_config.data.pseudo_labels
        stage_config.data.pseudo_labels = directories.get(labels, labels)
        if "fit" in stage:
            settings = dict(stage.get("settings", {}))
            scores = _fit_on_host(stage["fit"], settings, stage_config, directories[name], directories)
        else:
            scores = fit(stage_config, directories[name], directories)
        if jax.process_index() == 0:
            write_json(marker, scores)
    if jax.process_index() == 0:
        write_json(os.path.join(directory, "evaluation.json"), scores)
    return scores


def _fit_on_host(function: str, settings: dict, config, directory: str, directories: dict[str, str]) -> dict:
    """Runs a stage that is a function, and leaves its variables as a checkpoint and its scores like any other stage's."""
    run = Run(config, directory, directories)
    own, _, function = function.rpartition(":")
    module = importlib.import_module(own or architectures.REGISTRY[run.architecture.name].split(":")[0])
    if not hasattr(module, function):
        raise ValueError(f"stage: {module.__name__} has no function {function!r} to fit with.")
    fit_on_host, source, given = getattr(module, function), run.batches.source, dict(settings)
    parameters = inspect.signature(fit_on_host).parameters
    for name in settings:
        if name not in parameters:
            raise ValueError(f"stage: {function} has no setting {name!r}; {suggest(name, list(parameters)[4:])}")
    if "batches" in parameters:
        given["batches"] = make_batches(config, "train", run.task, train=False)
    variables = fit_on_host(run.architecture, jax.device_get(run.state.variables()), source, directory, **given)
    run.state = TrainState.create(jax.tree.map(jnp.asarray, variables), optax.identity())
    run.checkpoints.save(run.state, run._meta(), again=True)
    return run.finish()


def run_directory(directory: str) -> str:
    """The directory whose checkpoints speak for a run: its own, or that of its last stage."""
    path = os.path.join(directory, "config.json")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{directory!r} holds no run: there is no config.json in it.")
    with open(path) as file:
        stages = json.load(file).get("stages")
    return os.path.join(directory, stages[-1]["name"]) if stages else directory
