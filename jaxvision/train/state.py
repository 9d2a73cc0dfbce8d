"""What a training step takes and returns."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


@struct.dataclass
class TrainState:
    """step: int32; params, stats (the other variable collections) and opt_state: pytrees."""

    step: jax.Array
    params: Any
    stats: Any
    opt_state: Any

    @classmethod
    def create(cls, variables: dict, optimizer: optax.GradientTransformation) -> "TrainState":
        stats = {name: value for name, value in variables.items() if name != "params"}
        return cls(jnp.zeros((), jnp.int32), variables["params"], stats, optimizer.init(variables["params"]))

    def variables(self) -> dict[str, Any]:
        """For evaluation: the averaged parameters where the optimiser keeps them, else the parameters."""
        averaged = optax.tree_utils.tree_get(self.opt_state, "averaged", None)
        return {"params": self.params if averaged is None else averaged, **self.stats}
