"""Names and layouts between a torch state dict and jaxvision's variables."""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxvision.architecture import Architecture, create

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


class StateDictError(ValueError):
    """A state dict that does not fit a model. `entries` has a line for each that is missing, unexpected or of another shape;
    the text has the first forty."""

    def __init__(self, message: str, entries: Sequence[str] = ()):
        lines = [*entries[:40], *([f"and {len(entries) - 40} more"] if len(entries) > 40 else [])]
        super().__init__("\n  ".join([message, *lines]))
        self.entries = tuple(entries)


@dataclasses.dataclass(frozen=True)
class Builder:
    """How one of torchvision's builders is built and named here.

    architecture, options: what `create` makes it with; `options` holds torchvision's own default of num_classes.
    names: (pattern, replacement) pairs, as `re.sub` takes them, applied one after the other to an entry's place here,
      "trunk/c2_block0/conv1.weight", until it is torch's name, "layer1.0.conv1.weight". What is still "/" becomes ".".
    flattened: {pattern of the place: (height, width)} of dense layers that read a flattened map, which torch lays out CHW.
    layouts: {pattern of the place: (from torch, to torch)}, functions of an array, where layer and shape do not say it.
    head: patterns of the places whose shape depends on num_classes.
    other_heads: {option: patterns}: places whose shape depends on another option, as on the number of joints.
    legacy: (pattern, replacement) pairs that turn entries of old files into today's names.
    optional: {option: pattern}: the option is whether a file has entries of such names, as those of auxiliary heads.
    counted: whether its BatchNorms have `num_batches_tracked`; frozen ones have none.
    """

    architecture: str
    options: Mapping[str, Any]
    names: Sequence[tuple[str, str | Callable]]
    flattened: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    layouts: Mapping[str, tuple[Callable, Callable]] = dataclasses.field(default_factory=dict)
    head: Sequence[str] = ()
    other_heads: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    legacy: Sequence[tuple[str, str | Callable]] = ()
    optional: Mapping[str, str] = dataclasses.field(default_factory=dict)
    counted: bool = True

    def create(self, **options) -> Architecture:
        return create(self.architecture, **{**self.options, **options})

    def name(self, place: str) -> str:
        """torch's name of an entry."""
        for pattern, replacement in self.names:
            place = re.sub(pattern, replacement, place)
        return place.replace("/", ".")

    def is_head(self, place: str, option: str = "num_classes") -> bool:
        """Whether the entry's shape depends on that option."""
        patterns = self.head if option == "num_classes" else self.other_heads[option]
        return any(re.search(pattern, place) for pattern in patterns)

    def today(self, entries: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A state dict under today's names."""

        def renamed(name):
            for pattern, replacement in self.legacy:
                name = re.sub(pattern, replacement, name)
            return name

        return {renamed(name): np.asarray(value) for name, value in entries.items()}

    def found_in(self, entries: Mapping[str, np.ndarray]) -> dict[str, bool]:
        """The optional parts that a state dict has, and has not."""
        return {o: any(re.search(pattern, name) for name in entries) for o, pattern in self.optional.items()}

    def shape(self, place: str, leaf: Any) -> tuple[int, ...]:
        """torch's shape of an entry that is shaped as `leaf` here."""
        return self.layout(place, np.empty(leaf.shape, bool), True).shape

    def layout(self, place: str, value: np.ndarray, back: bool) -> np.ndarray:
        """An array of torch's layout in ours, or `back`."""
        for pattern, pair in self.layouts.items():
            if re.search(pattern, place):
                return pair[back](value)
        if value.ndim == 4:
            return value.transpose(3, 2, 0, 1) if back else value.transpose(2, 3, 1, 0)
        if value.ndim != 2:
            return value
        size = next((size for pattern, size in self.flattened.items() if re.search(pattern, place)), (1, 1))
        if back:
            rows = value.T.reshape(value.shape[1], *size, -1)
            return rows.transpose(0, 3, 1, 2).reshape(value.shape[::-1])
        rows = value.reshape(len(value), -1, *size)
        return rows.transpose(0, 2, 3, 1).reshape(value.shape).T


def places(variables: Mapping) -> dict[str, tuple[tuple, Any]]:
    """{place: (path, leaf)} of every leaf, as "trunk/stem_norm.running_mean"; the inner layer of a `Norm` has no name."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        *modules, name = (key.key for key in path[1:])
        if len(modules) > 1 and modules[-1] == "norm":
            modules = modules[:-1]
        found["/".join(modules) + "." + LEAVES.get(name, name)] = (path, leaf)
    return found


# Any network accepts it.
BLANK = {"image": np.zeros((1, 64, 64, 3), np.float32), "image_size": np.array([[64, 64]], np.int32)}


def abstract(architecture: Architecture) -> Any:
    """The variables' shapes."""
    return jax.eval_shape(architecture.init, jax.random.key(0), BLANK)


def initial(architecture: Architecture, wanted: Collection[str], key: jax.Array) -> dict[str, np.ndarray]:
    """{place: value} as `architecture.init` draws them."""

    @jax.jit
    def draw(key):  # what is not returned is not computed
        return {place: leaf for place, (_, leaf) in places(architecture.init(key, BLANK)).items() if place in wanted}

    return jax.device_get(draw(key))


def from_torch(
    builder: Builder, shapes: Mapping, entries: Mapping[str, np.ndarray], fresh: Mapping[str, Any] | None = None
) -> dict:
    """Variables of those `shapes` from a state dict; places in `fresh` take its values instead.

    Raises StateDictError that lists what is missing, unexpected or of another shape.
    """
    entries = builder.today(entries)
    fresh, wrong, values, used = fresh or {}, [], {}, set()
    for place, (path, leaf) in places(shapes).items():
        name = builder.name(place)
        used.add(name)
        if place in fresh:
            values[path] = np.asarray(fresh[place])
        elif name not in entries:
            wrong.append(f"missing: {name}")
        else:
            wanted = builder.shape(place, leaf)
            if entries[name].shape != wanted:
                wrong.append(f"shape of {name}: {entries[name].shape}, not {wanted}")
            else:
                values[path] = np.ascontiguousarray(builder.layout(place, entries[name], False), leaf.dtype)
    unexpected = [name for name in entries if name not in used and not name.endswith("num_batches_tracked")]
    wrong += [f"unexpected: {name}" for name in unexpected]
    if wrong:
        raise StateDictError(f"The state dict does not fit: {len(wrong)} entries are wrong.", wrong)
    return jax.tree_util.tree_map_with_path(lambda path, _: values[path], shapes)


def to_torch(builder: Builder, variables: Mapping) -> dict[str, np.ndarray]:
    """The state dict that `from_torch` reads, under today's names."""
    entries = {}
    for place, (_, leaf) in places(variables).items():
        name = builder.name(place)
        entries[name] = np.ascontiguousarray(builder.layout(place, np.asarray(leaf), True))
        if name.endswith("running_var") and builder.counted:
            entries[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return entries
