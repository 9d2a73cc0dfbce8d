"""Runs configs from nothing and checks the figures that their docstrings state.

python benchmarks/scores.py [CONFIG ...] [--runs=DIR] [--fresh-data]

A config states its figures beside its command, one line for each split, or for both; a figure is a floor:

python train.py --config=configs/example.py --workdir=runs/example
reaches: box/AP 0.50 mask/AP 0.40 validation and test seed 0 600 s

The command is run as it stands but for its workdir. A figure below its floor is missed, and the exit status is 1; more
seconds than stated are a warning, since machines differ. The seconds are those of the whole command. `docs/scores.md` gets
the rows of the configs that were run and keeps the others.
"""

import argparse
import ast
import datetime
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from jaxvision.train.checkpoint import score

ROOT = pathlib.Path(__file__).parents[1]
SPLITS = ("validation", "test")
COLUMNS = ("config", "command", "metric", "stated", *(f"measured {split}" for split in SPLITS), "seconds", "machine")
REACHES = re.compile(
    r"reaches: (?P<figures>(?:\S+ -?\d+(?:\.\d+)? )+)(?P<splits>validation and test|validation|test) "
    r"seed (?P<seed>\d+) (?P<seconds>\d+) s"
)


class Stated(NamedTuple):
    """What a config states of one seed: floors {metric: {split: value}}, and seconds."""

    seed: int
    floors: dict[str, dict[str, float]]
    seconds: int


def stated(docstring: str, where: str) -> list[Stated]:
    """What a config's docstring states, by seed. A line `reaches: (...)` states nothing.

    Raises ValueError for a line that begins with `reaches:` and cannot be read.
    """
    seeds: dict[int, Stated] = {}
    for line in (line.strip() for line in docstring.splitlines()):
        if not line.startswith("reaches:") or line.startswith("reaches: ("):
            continue
        match = REACHES.fullmatch(line)
        if not match:
            raise ValueError(
                f"{where}: {line!r} should read 'reaches: box/AP 0.50 mask/AP 0.40 validation seed 0 600 s'."
            )
        seed, words = int(match["seed"]), match["figures"].split()
        entry = seeds.setdefault(seed, Stated(seed, {}, int(match["seconds"])))
        for metric, value in zip(words[::2], words[1::2]):
            entry.floors.setdefault(metric, {}).update(
                {split: float(value) for split in match["splits"].split(" and ")}
            )
    return list(seeds.values())


def command(docstring: str, where: str) -> list[str]:
    """The words of the docstring's command. Raises ValueError where there is none."""
    match = re.search(r"^ *(python train\.py(?:.*\\\n)*.*)$", docstring, re.MULTILINE)
    if not match:
        raise ValueError(f"{where}: its docstring has no line 'python train.py --config=... --workdir=...'.")
    return shlex.split(match[1].replace("\\\n", " "))


def execute(words: list[str], workdir: pathlib.Path, seed: int, data: str | None) -> tuple[dict, float]:
    """({split: {metric: value}} of the command's run in workdir, the command's seconds).

    Raises FileExistsError for a workdir that is there, CalledProcessError where the run fails.
    """
    if workdir.exists():
        raise FileExistsError(
            f"{workdir} is there already: name another --runs, since figures are measured from nothing."
        )
    words = [sys.executable, *words[1:], f"--workdir={workdir}"]  # of a flag given twice the last counts
    if seed:
        words.append(f"--config.seed={seed}")
    environment = os.environ | ({"TFDS_DATA_DIR": data} if data else {})
    print("$", shlex.join(words), flush=True)
    began = time.perf_counter()
    subprocess.run(words, cwd=ROOT, env=environment, check=True)
    seconds = time.perf_counter() - began
    return json.loads((workdir / "evaluation.json").read_text()), seconds


def evaluate(workdir: pathlib.Path, split: str, data: str | None) -> dict:
    """Scores of the run on a split that its own command does not evaluate."""
    out = workdir / f"evaluation_{split}"
    program = "from jaxvision.cli import main; main()"
    words = [sys.executable, "-c", program, "evaluate", f"--workdir={workdir}", f"--split={split}", f"--out={out}"]
    environment = os.environ | ({"TFDS_DATA_DIR": data} if data else {})
    subprocess.run(words, cwd=ROOT, env=environment, check=True)
    return json.loads((out / "evaluation.json").read_text())


def missed(floors: dict[str, dict[str, float]], scores: dict[str, dict[str, float]]) -> list[str]:
    """What was stated and not reached, as sentences."""
    sentences = []
    for metric, by_split in floors.items():
        for split, floor in by_split.items():
            value = scores.get(split, {}).get(metric)
            if value is None:
                sentences.append(
                    f"{split} {metric}: no such score; there are {', '.join(scores.get(split, {})) or 'none'}"
                )
            elif not score({metric: value}, metric) >= score({metric: floor}, metric):
                sentences.append(f"{split} {metric}: {value:.4f}, stated {floor}")
    return sentences


def rows(name: str, words: list[str], entry: Stated, scores: dict, seconds: float, machine: str) -> list[str]:
    """The table's lines of one run, one for each metric."""
    lines = []
    for metric, by_split in entry.floors.items():
        floors = ", ".join(f"{floor} {split}" for split, floor in by_split.items())
        measured = []
        for split in SPLITS:
            value = scores.get(split, {}).get(metric)
            wrong = split in by_split and missed({metric: {split: by_split[split]}}, scores)
            measured.append(("-" if value is None else f"{value:.4f}") + (" **missed**" if wrong else ""))
        seed = f" --config.seed={entry.seed}" if entry.seed else ""
        time_text = f"{seconds:.0f} (stated {entry.seconds})"
        cells = (f"`{name}`", f"`{shlex.join(words)}{seed}`", metric, floors, *measured, time_text, machine)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def write_table(path: pathlib.Path, new: dict[str, list[str]]) -> None:
    """Writes the table with the new lines of the configs that were run, {name: lines}, and the old ones of others."""
    table: dict[str, list[str]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("| `"):
            table.setdefault(line.split("`")[1], []).append(line)
    table |= new
    head = [
        "# Scores",
        "",
        "Figures that configs state, and what their commands gave. Written by `benchmarks/scores.py`, which runs them from",
        "nothing: `python benchmarks/scores.py` for all, or with the names of configs.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    path.write_text("\n".join([*head, *(line for name in sorted(table) for line in table[name])]) + "\n")


def machine() -> str:
    """Cores, devices and their rate of matrix products, by which seconds of two machines can be compared.

    Asked of another process, since a process that has touched an accelerator may hold it.
    """
    program = (
        "import time, jax, jax.numpy as jnp\n"
        "x, product, seconds = jnp.ones((4096, 4096)), jax.jit(jnp.matmul), []\n"
        "for _ in range(5):\n"
        "    began = time.perf_counter()\n"
        "    product(x, x).block_until_ready()\n"
        "    seconds.append(time.perf_counter() - began)\n"
        "device = f'{jax.device_count()} {jax.devices()[0].device_kind}'\n"
        "print(f'{device} of {2 * 4096**3 / min(seconds) / 1e9:.0f} GFLOP/s, jax {jax.__version__}')"
    )
    device = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    return f"{len(os.sched_getaffinity(0))} cores, {device}, {datetime.date.today()}"


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 1 where a figure was missed or a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", help="files; default: those of configs/ that state figures")
    parser.add_argument("--runs", help="folder that keeps the runs; default: a temporary one")
    parser.add_argument("--fresh-data", action="store_true", help="prepare the embedded data anew, and count that in")
    parser.add_argument("--out", default=str(ROOT / "docs" / "scores.md"), help="the table")
    options = parser.parse_args(arguments)
    paths = [pathlib.Path(path) for path in options.configs] or sorted((ROOT / "configs").glob("*.py"))
    here, problems, new = machine(), [], {}
    with tempfile.TemporaryDirectory() as temporary:
        runs = pathlib.Path(options.runs or temporary).absolute()
        for path in paths:
            path = path.absolute()
            name = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            entries = stated(docstring, name)
            if not entries:
                print(f"{name} states no figures.")
                continue
            words, new[name] = command(docstring, name), []
            for entry in entries:
                workdir = runs / f"{path.stem}_seed{entry.seed}"
                data = str(runs / f"{workdir.name}_data") if options.fresh_data else None
                try:
                    scores, seconds = execute(words, workdir, entry.seed, data)
                    for split in {split for floors in entry.floors.values() for split in floors} - set(scores):
                        scores |= evaluate(workdir, split, data)
                except subprocess.CalledProcessError as error:
                    problems.append(f"{name}: exit status {error.returncode}")
                    continue
                new[name] += rows(name, words, entry, scores, seconds, here)
                problems += [f"{name}: {sentence}" for sentence in missed(entry.floors, scores)]
                if seconds > entry.seconds:
                    print(f"warning: {name} took {seconds:.0f} s, stated {entry.seconds} s", file=sys.stderr)
    write_table(pathlib.Path(options.out), {name: lines for name, lines in new.items() if lines})
    if new:
        print("\n".join(["missed:", *problems] if problems else ["every figure was reached"]))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
