"""The one training step, for every architecture.

Jit it over a device mesh with the batch sharded along its first axis: sums, counts and BatchNorm's statistics are then
global. Under `pmap` or `shard_map(check_vma=False)` name the axis here and to `create(axis=)`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxvision.architecture import Architecture
from jaxvision.suggest import suggest
from jaxvision.train.state import TrainState


def weigh(
    terms: Mapping[str, tuple[jax.Array, jax.Array]], weights: Mapping[str, float]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss terms {name: (sum, count)} to (their weighted total, each one's mean).

    Raises ValueError for a weight of a loss that does not exist.
    """
    unknown = [name for name in weights if name not in terms]
    if unknown:
        raise ValueError(f"There is no loss {unknown[0]!r} to weigh; {suggest(unknown[0], terms)}")
    means = {name: total / jnp.maximum(count, 1) for name, (total, count) in terms.items()}
    return sum(weights.get(name, 1.0) * mean for name, mean in means.items()), means


def train_step(
    state: TrainState,
    batch: Mapping[str, jax.Array],
    *,
    architecture: Architecture,
    optimizer: optax.GradientTransformation,
    seed: int = 0,
    axis: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update. Randomness is a function of (seed, state.step) alone.

    Metrics: `loss`, each term as `loss/NAME`, and the norms of gradient, parameters and update. Where the loss or the
    gradient's norm is not finite, the state comes back as it was but for the step's number.
    """
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    if axis is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    rngs = dict(zip(("dropout", "sampler"), jax.random.split(key)))

    def loss_fn(params: Any):
        variables = {"params": params, **state.stats}
        outputs, stats = architecture.model.apply(variables, batch, train=True, rngs=rngs, mutable=["batch_stats"])
        terms = architecture.losses(outputs, batch)
        if (
            axis is not None
        ):  # inside what is differentiated: the sum of the devices' losses over the sum of their counts
            terms = jax.lax.psum(terms, axis)
        loss, means = weigh(terms, architecture.weights)
        return loss, (means, {**state.stats, **stats})

    (loss, (means, stats)), gradient = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    if axis is not None:
        gradient, stats = jax.lax.pmean((gradient, stats), axis)
    update, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    new = TrainState(state.step, optax.apply_updates(state.params, update), stats, opt_state)
    norm = optax.global_norm(gradient)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state)
    metrics = {
        "loss": loss,
        **{f"loss/{name}": mean for name, mean in means.items()},
        "norm/gradient": norm,
        "norm/parameters": optax.global_norm(state.params),
        "norm/update": optax.global_norm(update),
    }
    return state.replace(step=state.step + 1), metrics
