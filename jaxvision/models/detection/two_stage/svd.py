"""Dense layers cut in two by truncated SVD, which makes a trained head smaller and faster (Girshick, "Fast R-CNN", section 3.1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp


def truncate(params: Mapping[str, Any], ranks: Sequence[int | None], head: str = "box_head") -> dict[str, Any]:
    """The parameters of the same detector with fc6, fc7, ... of `head` in two factors, as its option `ranks` has them.

    A layer's matrix (i, o) becomes one (i, rank) without a bias and one (rank, o) with the layer's own, i rank + rank o
    numbers in place of i o: the nearest of that rank, and the same function at the full one, min(i, o). A layer whose
    rank is None stays whole.
    Raises ValueError for a rank that is not in 1 .. min(i, o), and for more ranks than there are such layers.
    """
    layers = dict(params[head])
    for i, rank in enumerate(ranks):
        name = f"fc{6 + i}"
        if name not in layers:
            raise ValueError(f"ranks {tuple(ranks)} want a layer {name!r} of {head!r}, which has {', '.join(layers)}.")
        if rank is None:
            continue
        layer = layers.pop(name)
        full = min(layer["kernel"].shape)
        if not 1 <= rank <= full:
            raise ValueError(f"rank {rank} of {name!r} is not in 1 .. {full}.")
        u, s, v = jnp.linalg.svd(layer["kernel"], full_matrices=False)
        layers[f"{name}_in"] = {"kernel": u[:, :rank]}
        out = jnp.matmul(jnp.diag(s[:rank]), v[:rank], precision="highest")
        layers[f"{name}_out"] = {**layer, "kernel": out}
    return {**params, head: layers}
