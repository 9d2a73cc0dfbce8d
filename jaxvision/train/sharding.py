"""The device mesh: batches split along their first axis, everything else on every device."""

import collections
import itertools
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxvision.batch import split_host


def make_mesh() -> Mesh:
    """All devices in one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(batch_size: int) -> None:
    """Raises ValueError where the devices do not divide the batch."""
    if batch_size % jax.device_count():
        count = jax.device_count()
        raise ValueError(
            f"batch_size {batch_size} cannot be divided among {count} devices: take a multiple of {count}."
        )


def put(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's rows of a batch to the global array over all devices."""
    sharding = split(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()}


def prefetch(batches: Iterable[dict], mesh: Mesh, depth: int = 2) -> Iterator[tuple[dict, dict]]:
    """(batch on the devices, its host fields), with `depth` batches sent ahead."""
    iterator = iter(batches)
    queue = collections.deque()
    while True:
        for batch in itertools.islice(iterator, depth - len(queue)):
            device, host = split_host(batch)
            queue.append((put(device, mesh), host))
        if not queue:
            return
        yield queue.popleft()
