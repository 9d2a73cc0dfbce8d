"""The keys that every config has, with their defaults. `docs/config.md` explains them one by one."""

import ast
import contextlib
import difflib
import json
import re

import ml_collections


def default() -> ml_collections.ConfigDict:
    """A config with every key at its default; a recipe sets what it means to change."""
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "steps": 1000,
            "batch_size": 8,  # global: over all devices and hosts
            "log_every": 10,
            "architecture": {"name": ""},  # and the options of that architecture
            "data": {
                "source": "scenes/shapes",
                "train": "train",
                "validation": "validation",
                "test": "",  # evaluated once, at the end
                "dir": "",  # empty: TFDS's own folder
                "canvas": (128, 128),  # or several pairs
                "stretch": False,  # images fill it, their shape not kept
                "scales": (1.0,),  # of the canvas, one drawn for each training batch
                "max_boxes": 100,
                "workers": 1,
                "proposals": {},  # method and its arguments; `jaxvision.data.proposals.METHODS` has the names
                "pseudo_labels": "",  # of the training images: the stage, or directory of one, that made them
                "weak": {},  # kind -> arguments; what training's labels are made, see `jaxvision.data.weak.KINDS`
                "transforms": {},  # name -> arguments; `jaxvision.data.transforms.TRANSFORMS` has the names and their order
                "skip_bad": False,
            },
            "optimizer": {
                "name": "adamw",  # sgd, adam, adamw
                "learning_rate": 1e-3,
                "schedule": "cosine",  # constant, cosine, poly:POWER, step:STEP,STEP,...
                "warmup": 0,  # steps from a thousandth of the rate to the rate
                "weight_decay": 0.0,  # not of biases and normalisation
                "momentum": 0.9,  # sgd's
                "clip": 0.0,  # of the gradient's global norm; 0: none
                "accumulate": 1,
                "ema": 0.0,  # decay of the averaged parameters that are evaluated; 0: none
                "trainable": ".*",  # parameters whose path this regular expression finds; the others are frozen
                "factors": (),  # (pattern, factor of the learning rate) pairs, the first that matches
            },
            "losses": {},  # name -> weight
            "init": (),  # (pattern, "fresh" | directory | stage) pairs, the first that matches
            "evaluate": {
                "every": 1000,
                "metric": "",
                "patience": 0,
                "canvas": (),  # empty: that of the data
                "batch_size": 0,  # 0: that of the training
            },
            "checkpoint": {"every": 1000, "keep": 2},
            "precision": "float32",  # or bfloat16, for the trunk
            "remat": False,
            "stages": (),  # dicts of overrides, each with a `name`, run in order
        },
        sort_keys=False,
    )


# Keys below these are not fixed: what they may hold is known to somebody else, who checks it.
OPEN = ("architecture", "data.proposals", "data.transforms", "data.weak", "losses")


def _leaves(config, prefix="") -> dict:
    out = {}
    for key, value in config.items():
        if isinstance(value, ml_collections.ConfigDict) and prefix + key not in OPEN:
            out |= _leaves(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


def check(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError for a key that no config has, with the nearest real one, and for values that cannot be meant."""
    known = _leaves(default())
    for key in _leaves(config):
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ValueError(f'Unknown config key "{key}"; did you mean "{near}"?')
    if not config.architecture.name:
        raise ValueError("config.architecture.name is empty: name an architecture, e.g. 'mask_rcnn'.")
    for key in (
        "steps",
        "batch_size",
        "log_every",
        "data.max_boxes",
        "optimizer.accumulate",
        "evaluate.every",
        "checkpoint.every",
    ):
        value = _leaves(config)[key]
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"config.{key} must be a whole number of at least 1, got {value!r}.")
    if config.precision not in ("float32", "bfloat16"):
        raise ValueError(f"config.precision must be 'float32' or 'bfloat16', got {config.precision!r}.")
    scales = config.data.scales
    if not scales or not all(isinstance(scale, int | float) and scale > 0 for scale in scales):
        raise ValueError(f"config.data.scales must be positive numbers, got {scales!r}.")
    batch = config.evaluate.batch_size
    if not isinstance(batch, int) or batch < 0:
        raise ValueError(
            f"config.evaluate.batch_size must be a whole number, 0 for that of the training, got {batch!r}."
        )
    for train in (True, False):
        canvases(config, train)


def split_arguments(arguments: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """(the command line without `--config.KEY=VALUE` of open keys, those keys and values), for `set_open`."""
    pattern = re.compile(rf"--?config\.((?:{'|'.join(map(re.escape, OPEN))})\..+?)=(.*)", re.DOTALL)
    matches = [pattern.fullmatch(argument) for argument in arguments]
    plain = [argument for argument, match in zip(arguments, matches) if not match]
    return plain, [(match[1], match[2]) for match in matches if match]


def set_open(config: ml_collections.ConfigDict, key: str, value: str) -> None:
    """Sets a key that a recipe may or may not have: `architecture.fpn`, `losses.mask`, `data.transforms.flip.probability`.

    The value is a Python literal, else a string. Whether it means anything is found where it is used.
    """
    *path, name = key.split(".")
    with contextlib.suppress(ValueError, SyntaxError):
        value = ast.literal_eval(value)
    with config.unlocked():
        for part in path:
            if part not in config:
                config[part] = {}
            config = config[part]
    with config.unlocked():
        config[name] = value


def unknown_override(arguments: list[str]) -> str | None:
    """What is wrong with the first `--config.KEY=VALUE` whose key no config has, or None."""
    keys = _leaves(default())
    sections = {key.rpartition(".")[0] for key in keys}
    for argument in arguments:
        match = re.match(r"--?config\.([^=]+)", argument)
        if match and match[1] not in keys and match[1] not in sections:
            near = difflib.get_close_matches(match[1], keys, n=1, cutoff=0.0)[0]
            return f'Unknown config key "{match[1]}" in {argument}; did you mean "{near}"?'
    return None


def canvases(config: ml_collections.ConfigDict, train: bool = True) -> list[tuple[int, int]]:
    """The canvases to train on, or else to evaluate on, as a list of (height, width)."""
    own = not train and config.evaluate.canvas
    key, value = ("evaluate.canvas", config.evaluate.canvas) if own else ("data.canvas", config.data.canvas)
    pairs = [value] if value and isinstance(value[0], int) else list(value)
    if not pairs or any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
        raise ValueError(f"config.{key} must be (height, width) or several such pairs, got {value!r}.")
    return [tuple(int(side) for side in pair) for pair in pairs]


def override(config: ml_collections.ConfigDict, changes) -> ml_collections.ConfigDict:
    """A copy of config with a stage's changes, nested dicts of the same keys; `transforms` and `losses` are replaced whole."""
    config = ml_collections.ConfigDict(config.to_dict(), sort_keys=False)
    for key, value in dict(changes).items():
        if key == "name":
            continue
        if key == "architecture":
            new = dict(value)
            config.architecture = ({} if "name" in new else config.architecture.to_dict()) | new
        elif hasattr(value, "items") and isinstance(config.get(key), ml_collections.ConfigDict) and key != "losses":
            for inner, setting in value.items():
                config[key][inner] = setting
        else:
            config[key] = value
    return config


def dumps(config: ml_collections.ConfigDict) -> str:
    return json.dumps(config.to_dict(), indent=1)


def loads(text: str) -> ml_collections.ConfigDict:
    """The config that `dumps` wrote; a key that has come since then takes its default."""
    values = json.loads(text)
    for key, value in default().to_dict().items():
        if isinstance(value, dict) and key not in OPEN:
            values[key] = {**value, **values.get(key, {})}
        else:
            values.setdefault(key, value)
    return ml_collections.ConfigDict(values, sort_keys=False)
