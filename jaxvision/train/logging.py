"""What a run writes while it goes: metrics.jsonl, TensorBoard events, a progress bar or plain lines."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping

import tqdm


class MetricsWriter:
    """Appends to DIR/metrics.jsonl, one JSON object a line, and to TensorBoard events.

    step: the first step that this run will write; lines from it on, left by a run that was killed after its last
    checkpoint, are taken out so that every step stands once.
    """

    def __init__(self, directory: str, step: int = 0):
        from tensorboardX import SummaryWriter

        path = os.path.join(directory, "metrics.jsonl")
        kept = []
        if os.path.exists(path):
            with open(path) as file:
                kept = [line for line in file if line.endswith("\n") and json.loads(line)["step"] <= step]
        with open(path, "w") as file:
            file.writelines(kept)
        self._file = open(path, "a", buffering=1)  # noqa: SIM115 - open as long as the run
        self._board = SummaryWriter(os.path.join(directory, "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Numbers that are not finite are written as null, which JSON can say."""
        clean = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **clean}) + "\n")
        for name, value in clean.items():
            if value is not None:
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


def read_scores(directory: str, step: int) -> dict[int, dict[str, float]]:
    """{step: {metric: value}} of the validations that DIR/metrics.jsonl holds up to a step, NaN where it says null."""
    path, prefix, scores = os.path.join(directory, "metrics.jsonl"), "validation/", {}
    if not os.path.exists(path):
        return scores
    with open(path) as file:
        lines = [json.loads(line) for line in file if line.endswith("\n")]
    for line in lines:
        found = {name.removeprefix(prefix): value for name, value in line.items() if name.startswith(prefix)}
        if found and line["step"] <= step:
            scores[line["step"]] = {name: math.nan if value is None else value for name, value in found.items()}
    return scores


class Progress:
    """A bar on a terminal; elsewhere a plain line every `seconds`."""

    def __init__(self, start: int, total: int, seconds: float = 10.0):
        self._bar = (
            tqdm.tqdm(initial=start, total=total, unit="step", dynamic_ncols=True) if sys.stderr.isatty() else None
        )
        self._start, self._total, self._seconds = start, total, seconds
        self._began = self._last = None

    def update(self, step: int, loss: float, batch_size: int) -> None:
        """step: how many are done."""
        now = time.monotonic()
        if self._began is None:  # the first step held the compilation: the clock starts after it
            self._began, self._start, self._last = now, step, now - self._seconds
        rate = (step - self._start) / max(now - self._began, 1e-9)
        text = f"loss {loss:.4f}, {rate * batch_size:.1f} images/s"
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix_str(text, refresh=False)
        elif now - self._last >= self._seconds or step == self._total:
            self._last = now
            left = (self._total - step) / rate if rate else math.nan
            eta = f"{left:.0f} s left" if math.isfinite(left) else "first step done"
            say(f"step {step}/{self._total}: {text}, {eta}")

    def pause(self) -> None:
        """Takes the time since `began` out of what follows: called around evaluations."""
        self._paused = time.monotonic()

    def resume(self) -> None:
        if self._began is not None:
            self._began += time.monotonic() - self._paused

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def write_json(path: str, value) -> None:
    """Numbers that are not finite are written as null, which JSON can say."""

    def clean(value):
        if isinstance(value, Mapping):
            return {key: clean(v) for key, v in value.items()}
        if isinstance(value, list | tuple):
            return [clean(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    with open(path, "w") as file:
        json.dump(clean(value), file, indent=1)


def say(text: str) -> None:
    """A line for the person at the terminal, from one host and not through a progress bar."""
    import jax

    if jax.process_index() == 0:
        tqdm.tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()


def table(scores: dict[str, dict[str, float]]) -> str:
    """{split: {metric: value}} as text, a metric a line and a column a split; per-class scores are left to the file."""
    splits = list(scores)
    names = [name for name in dict.fromkeys(n for s in splits for n in scores[s]) if name.count("/") < 2]
    width = max(map(len, names), default=6)
    lines = [" " * width + "".join(f"{split:>12}" for split in splits)]
    for name in names:
        values = (scores[split].get(name) for split in splits)
        lines += [f"{name:<{width}}" + "".join(f"{math.nan if value is None else value:>12.4f}" for value in values)]
    return "\n".join(lines)
