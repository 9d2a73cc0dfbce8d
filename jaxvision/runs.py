"""A trained run, read back from its directory."""

import json

from jaxvision import architecture as architectures
from jaxvision import config as configs
from jaxvision.train.init import best_checkpoint
from jaxvision.train.stages import run_directory


def load_run(directory: str):
    """(config, architecture, variables, class names) of a run's best checkpoint.

    Raises FileNotFoundError where there is no run, CheckpointError where its checkpoint cannot be read.
    """
    checkpoints, step = best_checkpoint(run_directory(directory))
    meta = checkpoints.meta(step)
    config = configs.loads(json.dumps(meta["config"]))
    options = config.architecture.to_dict()
    name, names = options.pop("name"), tuple(meta["class_names"])
    options.setdefault("num_classes", len(names))
    if config.precision != "float32":
        options["dtype"] = config.precision
    return config, architectures.create(name, **options), checkpoints.restore_variables(step), names
