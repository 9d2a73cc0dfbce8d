"""What a training step costs: compilation, time, the loader's share, memory, arithmetic.

python benchmarks/train_step.py configs/quickstart.py [--config.batch_size=16 ...] [--steps=500]

A step on one cached batch is measured before and after the steps with the loader, so that a machine that changes its
speed meanwhile changes both. Steps are timed as the training loop takes them, a step's metrics being read while the next
one runs.
"""

import itertools
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from jaxvision.data.loader import load
from jaxvision.train import sharding
from jaxvision.train.loop import Run

_CONFIG = config_flags.DEFINE_config_file("config", help_string="the recipe; `--config=` may be left out")
_STEPS = flags.DEFINE_integer("steps", 200, "steps with the loader", lower_bound=2)

CACHED = 30  # steps on the cached batch, before and after
SETTLED = 100  # the step from which memory should stay as it is
SIDE = 4096  # of the matrices whose product gives the machine's rate


def measure(config, directory: str, steps: int) -> dict[str, str]:
    """The table's rows, name to text, for `steps` steps of the config; directory is for the run's files."""
    run = Run(config, directory)
    [(batch, _)] = sharding.prefetch([run.batches[0]], run.mesh)
    began = time.perf_counter()
    step = run.train_step.lower(run.state, batch).compile()
    compilation = time.perf_counter() - began

    state, _ = step_times(step, run.state, [batch] * 3)  # warms up
    state, before = step_times(step, state, itertools.repeat(batch, CACHED))
    memory = {}

    def watch(count):
        if count in (min(SETTLED, steps // 2), steps):
            memory[count] = resident()

    loaded = sharding.prefetch(load(run.batches, 0, steps, workers=config.data.workers), run.mesh)
    state, with_loader = step_times(step, state, (batch for batch, _ in loaded), watch)
    state, after = step_times(step, state, itertools.repeat(batch, CACHED))

    cached = np.concatenate([before, after])
    flops, rate = step.cost_analysis().get("flops", 0.0), matmul_rate()
    (early, settled), (_, end) = sorted(memory.items())
    rows = {
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}, jax {jax.__version__}, {os.cpu_count()} cores",
        "compilation": f"{compilation:.1f} s",
        "step, cached batch": spread(cached),
        f"step, {config.data.workers} loader worker(s)": spread(with_loader),
        "loader share": f"{np.median(with_loader) / np.median(cached):.2f}x",
        "throughput": f"{config.batch_size / np.median(with_loader):.1f} images/s",
        "arithmetic of a step": f"{flops / 1e9:.2f} GFLOP a device, by XLA's count",
        f"matmul {SIDE}, float32": f"{rate / 1e9:.0f} GFLOP/s",
        "arithmetic share": f"{flops / np.median(cached) / rate:.0%} of that rate",
        "peak memory of the process": f"{peak() / 2**20:.0f} MiB",
        f"memory at step {early}, {steps}": f"{settled / 2**20:.0f}, {end / 2**20:.0f} MiB ({end / settled - 1:+.1%})",
    }
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        rows["peak memory of a device"] = f"{statistics['peak_bytes_in_use'] / 2**20:.0f} MiB"
    return rows


def step_times(step: Callable, state, batches: Iterable, watch: Callable[[int], None] = lambda count: None):
    """(the state after all batches, seconds of each step but the first)."""
    ends, pending = [], None
    for count, batch in enumerate(batches, 1):
        state, metrics = step(state, batch)
        if pending is not None:
            pending.block_until_ready()
        ends.append(time.perf_counter())
        pending = metrics["loss"]
        watch(count)
    jax.block_until_ready(state)
    ends.append(time.perf_counter())
    return state, np.diff(ends)[1:] if len(ends) > 2 else np.diff(ends)


def matmul_rate() -> float:
    """Float operations a second of a big float32 product, at the precision that models use."""
    x = jnp.ones((SIDE, SIDE))
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        product(x, x).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * SIDE**3 / float(np.median(seconds))


def spread(seconds: np.ndarray) -> str:
    low, middle, high = np.percentile(seconds, (10, 50, 90)) * 1e3
    return f"{middle:.1f} ms (10% under {low:.1f}, 10% over {high:.1f}; {len(seconds)} steps)"


def resident() -> int:
    """Bytes of memory that this process holds now; loader processes have their own."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak() -> int:
    """The most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(_):
    logging.set_verbosity(logging.WARNING)  # orbax tells of every file it touches
    with tempfile.TemporaryDirectory() as directory:
        rows = measure(_CONFIG.value, directory, _STEPS.value)
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {text}" for name, text in rows.items()))


if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # recipes import `configs`
    sys.argv = [
        f"--config={a}" if a.endswith(".py") and i and not a.startswith("-") else a for i, a in enumerate(sys.argv)
    ]
    flags.mark_flag_as_required("config")
    app.run(main)
