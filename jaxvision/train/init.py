"""Where parameters come from: fresh, or a checkpoint, by patterns."""

import math
import os
import re
from collections.abc import Mapping

import jax

from jaxvision.train.checkpoint import CheckpointError, Checkpoints
from jaxvision.train.optimizer import map_paths, path_name


def best_checkpoint(directory: str) -> tuple[Checkpoints, int]:
    """The checkpoints of a run's directory and the step of the best. Raises CheckpointError where there is none."""
    from jaxvision import config as configs

    folder, saved = os.path.join(directory, "checkpoints"), os.path.join(directory, "config.json")
    metric = ""
    if os.path.exists(saved):
        with open(saved) as file:
            metric = configs.loads(file.read()).evaluate.metric
    if not os.path.isdir(folder):
        raise CheckpointError(f"There are no checkpoints in {directory!r}: name the directory of a finished run.")
    checkpoints = Checkpoints(folder, metric=metric, read_only=True)
    step = checkpoints.best()
    if step is None:
        raise CheckpointError(f"There is no finished checkpoint in {folder!r}.")
    return checkpoints, step


def load_variables(directory: str) -> dict:
    """The variables of the best checkpoint of a run's directory, averaged parameters where it kept them."""
    checkpoints, step = best_checkpoint(directory)
    return checkpoints.restore_variables(step)


def initialize(variables: dict, rules, loaders: Mapping[str, str] | None = None) -> tuple[dict, dict[str, list[str]]]:
    """Replaces variables by those of other runs.

    rules: (pattern, origin) pairs, the first whose regular expression finds the parameter's path counts; origin is
      "fresh", the name of an earlier stage (a key of `loaders`, its directory), a run's directory, or "NAME:FILE.pth",
      the weights of torchvision's model of that name, without its head. What no rule finds is fresh. Running statistics
      follow the same rules. With a third text, what the pattern finds is called that in the origin's path: ("^a/", run,
      "b/") takes a/kernel from b/kernel. A dense layer's kernel that fits becomes that of a convolution over what it
      read, as in FCN.
    Returns (variables, {"loaded": paths, "fresh": paths, "unused": paths that an origin has and nobody took}).
    Raises ValueError for a parameter that the origin lacks or has in another shape, and for patterns that find nothing.
    """
    loaders, trees, report = dict(loaders or {}), {}, {"loaded": [], "fresh": [], "unused": []}
    used, problems, found = set(), [], set()

    def origin_tree(origin):
        if origin not in trees:
            trees[origin] = _load_flat(loaders.get(origin, origin))
        return trees[origin]

    def choose(path, leaf):
        short = path.split("/", 1)[1]  # a pattern sees "trunk/stem/kernel", not "params/trunk/stem/kernel"
        pattern, origin, *other = next((rule for rule in rules if re.search(rule[0], short)), (None, "fresh"))
        found.add(pattern)
        if origin == "fresh":
            report["fresh"].append(path)
            return leaf
        there = f"{path.split('/', 1)[0]}/{re.sub(pattern, other[0], short, count=1)}" if other else path
        value = origin_tree(origin).get(there)
        if value is not None and _is_dense_for(value.shape, leaf.shape):
            value = value.reshape(leaf.shape)
        if value is None or value.shape != leaf.shape:
            problems.append(f"{there}: wanted {leaf.shape}, {origin} has {None if value is None else value.shape}")
            return leaf
        used.add((origin, there))
        report["loaded"].append(path)
        return value.astype(leaf.dtype)

    variables = map_paths(choose, variables)
    if problems:
        shown = "; ".join(problems[:5])
        raise ValueError(
            f"init: {len(problems)} parameters cannot be loaded: {shown}. Mark them 'fresh' by an earlier pattern."
        )
    idle = [pattern for pattern, *_ in rules if pattern not in found]
    if idle:
        raise ValueError(f"init: the pattern(s) {idle} find no parameter that an earlier one does not take.")
    report["unused"] = [
        f"{origin}: {path}" for origin, tree in trees.items() for path in tree if (origin, path) not in used
    ]
    return variables, report


def _is_dense_for(dense: tuple[int, ...], convolution: tuple[int, ...]) -> bool:
    """Whether a kernel (h w i, o), of a layer that read a map (h, w, i) row by row, is one (h, w, i, o)."""
    return len(dense) == 2 and len(convolution) == 4 and dense == (math.prod(convolution[:3]), convolution[3])


def _load_flat(origin: str) -> dict:
    """{path: array} of a run's directory or of "NAME:FILE"."""
    name, _, file = origin.partition(":")
    if file.endswith((".pth", ".pt", ".safetensors")):
        from jaxvision.interop.torchvision import load_trunk

        return load_trunk(name, file)
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(load_variables(origin))}
