"""The named places of a network: what they hold, and what becomes of the outputs where one of them changes.

A name is that of an output, as "c4"; where it also passed through `self.perturb("c4", x)` one can differentiate in it. Or it is
the path of a submodule, as "trunk/stem", whose output it means: so any Linen model can be looked into as it stands.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.batch import INPUTS
from jaxvision.suggest import suggest

PERTURBATIONS = "perturbations"


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A model with what it predicts, as a function of (variables, batch) that `jit` may take as a static argument."""

    name: str
    model: nn.Module
    predict: Callable | None

    def __hash__(self):
        try:
            return hash(self.model)
        except TypeError:  # a field of it is a dict
            return hash(type(self.model))

    def __eq__(self, other):
        return isinstance(other, Network) and self.model == other.model and self.predict == other.predict

    def __call__(self, variables: Mapping, batch: Any, **options) -> Any:
        """Outputs and predictions as one dict; an array, of a model that returns nothing else, is its `logits`."""
        if "train" in inspect.signature(type(self.model).__call__).parameters:
            options["train"] = False
        found = self.model.apply(variables, batch, **options)
        outputs, *updates = found if "mutable" in options else (found,)
        outputs = dict(outputs) if isinstance(outputs, Mapping) else {"logits": outputs}
        if self.predict is not None:
            outputs = {**self.predict(outputs, batch), **outputs}
        return (outputs, *updates) if updates else outputs


class Endpoint(NamedTuple):
    """path: of the perturbation, or () of an output that is only looked at; None: `name` is the path of a submodule."""

    name: str
    path: tuple[str, ...] | None


class Outline(NamedTuple):
    """Shapes alone: of the outputs, of what can be perturbed, and of what the submodules return."""

    outputs: dict[str, jax.ShapeDtypeStruct]
    perturbations: dict
    modules: dict[str, jax.ShapeDtypeStruct]

    def endpoint(self, name: str, network: str, differentiable: bool = True) -> Endpoint:
        """Raises ValueError for a name that does not exist, with those that do, and for one that is only an output."""
        every = [tuple(key.key for key in path) for path, _ in jax.tree.leaves_with_path(self.perturbations)]
        paths = [path for path in every if path[-1] == name]
        if name in self.modules:
            return Endpoint(name, None)
        if name not in self.outputs and paths:
            raise ValueError(
                f"{name} of {network} passes through `self.perturb` but is not returned: return it in a dict, by that name."
            )
        if name not in self.outputs:
            known = [n for n, value in self.outputs.items() if value.ndim == 4] or self.modules
            raise ValueError(
                f"{network} has no layer {name!r}; {suggest(name, known)} The path of a module is one too, as "
                f"{next(iter(self.modules), None)!r}."
            )
        if differentiable and not paths:
            able = sorted({path[-1] for path in every} & self.outputs.keys())
            raise ValueError(
                f"{name} of {network} is an output in which nothing can be differentiated; in {', '.join(able) or 'none'} "
                "one can: it passes through `self.perturb`."
            )
        # An RPN with a trunk of its own has the same names, under a longer path.
        return Endpoint(name, min(paths, key=lambda path: (len(path), len("/".join(path))), default=()))

    def shape(self, endpoint: Endpoint) -> tuple[int, ...]:
        return (self.modules if endpoint.path is None else self.outputs)[endpoint.name].shape


def prepared(architecture: Architecture | nn.Module, variables: Mapping, batch: Any) -> tuple[Network, dict, Any]:
    """(network, variables, batch) of an architecture or of a Linen model, and of a batch, or images on their canvas.

    An architecture sees what predictions may look at, no ground truth; images (B,H,W,3) fill their canvas. A model of one's own
    is called with the batch as it is. Raises ValueError for images of another shape.
    """
    variables = {name: value for name, value in variables.items() if name != PERTURBATIONS}
    if not isinstance(architecture, Architecture):
        return Network(type(architecture).__name__, architecture, None), variables, batch
    if not isinstance(batch, Mapping):
        if batch.ndim != 4 or batch.shape[-1] != 3:
            raise ValueError(f"Give a batch, or images (B, H, W, 3); got {batch.shape}.")
        size = jnp.tile(jnp.array(batch.shape[1:3], jnp.int32), (len(batch), 1))
        batch = {"image": batch, "image_size": size}
    batch = {name: jnp.asarray(value) for name, value in batch.items() if name in INPUTS}
    return Network(architecture.name, architecture.model, architecture.predict), variables, batch


def outline(network: Network, variables: Mapping, batch: Any) -> Outline:
    """What the network has to offer; traced once for batches of a shape."""
    leaves, structure = jax.tree.flatten((variables, batch))
    return _outline(network, structure, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves))


@functools.lru_cache(maxsize=64)
def _outline(network, structure, leaves):
    variables, batch = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])
    modules = {}

    def note(path, value):
        if isinstance(value, jax.Array) and path:
            modules.setdefault(path, jax.ShapeDtypeStruct(value.shape, value.dtype))
        return value

    def look(variables, batch):
        with nn.intercept_methods(_at_modules(note)):
            return network(variables, batch, mutable=[PERTURBATIONS])

    outputs, updates = jax.eval_shape(look, variables, batch)
    outputs = {name: value for name, value in outputs.items() if isinstance(value, jax.ShapeDtypeStruct)}
    return Outline(outputs, updates.get(PERTURBATIONS, {}), {k: v for k, v in modules.items() if k not in outputs})


def _at_modules(act: Callable):
    """An interceptor that puts every module's output through act(path, value)."""

    def intercept(call, args, kwargs, context):
        value = call(*args, **kwargs)
        return act("/".join(context.module.path), value) if context.method_name == "__call__" else value

    return intercept


def run(network: Network, variables: Mapping, batch: Any, endpoint: Endpoint, change: jax.Array | None = None) -> dict:
    """The outputs, and under its name what is at the endpoint, to which `change` is added.

    Raises ValueError for a submodule that is called several times.
    """
    if endpoint.path is None:
        seen = []

        def act(path, value):
            if path == endpoint.name:
                value = value if change is None else value + change
                seen.append(value)
            return value

        with nn.intercept_methods(_at_modules(act)):
            outputs = network(variables, batch)
        if len(seen) != 1:
            raise ValueError(f"{endpoint.name} of {network.name} is called {len(seen)} times: name another layer.")
        return {**outputs, endpoint.name: seen[0]}
    if change is not None:

        def leaf(path, shape):
            here = tuple(key.key for key in path) == endpoint.path
            return change if here else jnp.zeros(shape.shape, shape.dtype)

        perturbations = outline(network, variables, batch).perturbations
        variables = {**variables, PERTURBATIONS: jax.tree_util.tree_map_with_path(leaf, perturbations)}
    return network(variables, batch)


def spatial(network: Network, variables: Mapping, batch: Any, layer: str, differentiable: bool = True) -> Endpoint:
    """The endpoint of a map (rows, h, w, D). Raises ValueError for a name that does not exist and for what has no space."""
    offer = outline(network, variables, batch)
    if layer in offer.outputs and len(offer.outputs[layer].shape) != 4:
        raise ValueError(
            f"{layer} of {network.name} has shape {offer.outputs[layer].shape}: a map needs height and width, "
            f"as {', '.join(name for name, value in offer.outputs.items() if value.ndim == 4) or 'none here'} have."
        )
    endpoint = offer.endpoint(layer, network.name, differentiable)
    if len(offer.shape(endpoint)) != 4:
        raise ValueError(f"{layer} of {network.name} has shape {offer.shape(endpoint)}: a map needs height and width.")
    return endpoint
