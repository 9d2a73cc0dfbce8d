"""Optimisers and learning-rate schedules from a config."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxvision.suggest import suggest


def path_name(path) -> str:
    """A parameter's place as a user writes it in a pattern: 'backbone/c2/conv/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def map_paths(function: Callable[[str, Any], Any], tree: Any) -> Any:
    """The tree of function(path, leaf)."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(path_name(path), leaf), tree)


def make_schedule(config, steps: int) -> optax.Schedule:
    """Learning rate by step: warm-up from a thousandth, then `constant`, `cosine` to 0, `poly:POWER` to 0, or `step:A,B`
    (a tenth from step A on, a hundredth from B on).

    Raises ValueError for another name, or boundaries that are not increasing numbers.
    """
    name, _, argument = config.schedule.partition(":")
    rate, warmup = config.learning_rate, config.warmup
    if warmup >= steps and warmup:
        raise ValueError(f"optimizer.warmup {warmup} leaves nothing of {steps} steps.")
    if name == "constant":
        after = optax.constant_schedule(rate)
    elif name == "cosine":
        after = optax.cosine_decay_schedule(rate, steps - warmup)
    elif name == "poly":
        after = optax.polynomial_schedule(rate, 0.0, float(argument or 0.9), steps - warmup)
    elif name == "step":
        bounds = [int(bound) for bound in argument.split(",")] if argument else []
        if not bounds or bounds != sorted(set(bounds)) or bounds[0] <= warmup:
            raise ValueError(
                f"optimizer.schedule {config.schedule!r} needs increasing steps after the warm-up, as 'step:800,950'."
            )
        after = optax.piecewise_constant_schedule(rate, {bound - warmup: 0.1 for bound in bounds})
    else:
        known = ("constant", "cosine", "poly", "step")
        raise ValueError(f"optimizer.schedule {config.schedule!r} is not known; {suggest(name, known)}")
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(rate / 1000, rate, warmup), after], [warmup])


class AverageState(NamedTuple):
    count: jax.Array
    averaged: Any


def average_parameters(decay: float) -> optax.GradientTransformation:
    """Keeps an exponential moving average of the parameters after each update, as `averaged` in its state.

    The decay starts low, min(decay, (1 + t) / (10 + t)), so that the first parameters are soon forgotten.
    """

    def update(updates, state, params):
        weight = jnp.minimum(decay, (1.0 + state.count) / (10.0 + state.count))
        new = optax.apply_updates(params, updates)
        averaged = jax.tree.map(lambda a, p: weight * a + (1 - weight) * p, state.averaged, new)
        return updates, AverageState(state.count + 1, averaged)

    copy = lambda params: jax.tree.map(jnp.array, params)  # noqa: E731 - two donated trees may not share a buffer
    return optax.GradientTransformation(lambda params: AverageState(jnp.zeros((), jnp.int32), copy(params)), update)


def _scale_by_path(factors) -> optax.GradientTransformation:
    def factor(path: str) -> float:
        return next((value for pattern, value in factors if re.search(pattern, path)), 1.0)

    return optax.stateless(lambda updates, _: map_paths(lambda path, u: u * factor(path), updates))


def make_optimizer(config, steps: int, params: Mapping) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """(optimiser, learning rate by training step) from `config.optimizer`.

    The gradient is clipped, turned into a direction (`sgd` with momentum and `adam` with the weight decay added to the
    gradient, `adamw` with it added to the direction), scaled by the rate and by its path's factor. Weight decay leaves out
    biases and normalisation (all that is a vector). Frozen parameters have no optimiser state and do not count in clipping.
    Raises ValueError for unknown names, and patterns that find nothing.
    """
    every = config.accumulate
    schedule = make_schedule(config, steps)

    def updates_schedule(count):  # the optimiser counts updates, of `every` steps each
        return schedule(count * every)

    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in (config.trainable, *(pattern for pattern, _ in config.factors)):
        if not any(re.search(pattern, path) for path in paths):
            raise ValueError(f"optimizer: the pattern {pattern!r} finds no parameter; one is called {paths[0]!r}.")
    matrices = lambda tree: jax.tree.map(lambda p: p.ndim > 1, tree)  # noqa: E731
    decay = optax.add_decayed_weights(config.weight_decay, mask=matrices) if config.weight_decay else optax.identity()
    direction = {
        "sgd": lambda: (decay, optax.trace(config.momentum) if config.momentum else optax.identity()),
        "adam": lambda: (decay, optax.scale_by_adam()),
        "adamw": lambda: (optax.scale_by_adam(), decay),
    }
    if config.name not in direction:
        raise ValueError(f"optimizer.name {config.name!r} is not known; {suggest(config.name, direction)}")
    chain = optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        *direction[config.name](),
        optax.scale_by_learning_rate(updates_schedule),
        _scale_by_path(config.factors) if config.factors else optax.identity(),
    )
    if config.trainable != ".*":
        labels = lambda tree: map_paths(  # noqa: E731
            lambda path, _: "trained" if re.search(config.trainable, path) else "frozen", tree
        )
        chain = optax.partition({"trained": chain, "frozen": optax.set_to_zero()}, labels)
    if config.ema:
        chain = optax.chain(chain, average_parameters(config.ema))
    if every > 1:
        chain = optax.MultiSteps(chain, every).gradient_transformation()
    return chain, schedule
