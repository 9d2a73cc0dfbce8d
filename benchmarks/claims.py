"""What the tables of claims share: where runs are kept, the spread of seeds, verdicts, and the page's parts."""

import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence

import numpy as np

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "claims.md"
TITLE = "# Claims of the literature"


def place(runs: pathlib.Path, name: str, seed: int) -> pathlib.Path:
    return runs / f"{re.sub('[^a-z0-9]+', '_', name.lower())}_seed{seed}"


def measured(runs: pathlib.Path, name: str, seed: int) -> dict[str, float] | None:
    """What a run that has ended found, or None."""
    path = place(runs, name, seed) / "measured.json"
    return json.loads(path.read_text()) if path.exists() else None


def keep(runs: pathlib.Path, name: str, seed: int, found: dict[str, float]) -> None:
    """Marks a run as ended, with what it found."""
    directory = place(runs, name, seed)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "measured.json").write_text(json.dumps(found, indent=1))


def run_all(script: str, arguments: Sequence[str], runs: pathlib.Path, names: Iterable[str], seeds: int) -> None:
    """A process of its own for each run that has not ended: `script` with the arguments and --worker NAME SEED."""
    names = tuple(names)
    for seed in range(seeds):
        for name in names:
            if measured(runs, name, seed) is not None:
                print(f"{name}, seed {seed}: done before", flush=True)
                continue
            print(f"{name}, seed {seed}", flush=True)
            subprocess.run([sys.executable, script, *arguments, "--worker", name, str(seed)], check=True)


def values(runs: pathlib.Path, name: str, seeds: int) -> dict[str, np.ndarray]:
    """{metric: value of each seed, (S,)} of a name whose runs have ended."""
    rows = [measured(runs, name, seed) for seed in range(seeds)]
    return {metric: np.array([row[metric] for row in rows]) for metric in rows[0]}


def spread(values: np.ndarray) -> float:
    """The standard deviation of the seeds; nan of one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def mean_and_spread(values: np.ndarray) -> str:
    return f"{values.mean():.4f}" + (f" ± {spread(values):.4f}" if len(values) > 1 else "")


def verdict(differences: np.ndarray) -> str:
    """What the seeds say of "better > worse", by the difference of the two with each seed."""
    if len(differences) < 2:
        return "one seed: not judged"
    if abs(differences.mean()) <= spread(differences):
        return "undecided"
    return "holds" if differences.mean() > 0 else "does not hold"


def judged(claims: Iterable[tuple[str, str, str, str]], found: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """A table of claims (text, better, worse, metric), as far as their runs are there."""
    lines = ["| claim | by | over | metric | difference | spread | |", "|---|---|---|---|---|---|---|"]
    for claim, better, worse, metric in claims:
        if better in found and worse in found:
            each = found[better][metric] - found[worse][metric]
            cells = (claim, better, worse, metric, f"{each.mean():+.4f}", f"{spread(each):.4f}", verdict(each))
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


def write_part(title: str, lines: Iterable[str], page: pathlib.Path = PAGE) -> None:
    """Puts a part under its title into the page, in place of an older one; the page's other parts stay."""
    text = page.read_text() if page.exists() else f"{TITLE}\n"
    head, *parts = re.split(r"(?m)^## ", text)
    known = {part.partition("\n")[0]: part.partition("\n")[2].strip("\n") for part in parts}
    known[title] = "\n".join(lines).strip("\n")
    page.write_text("\n\n".join([head.strip("\n"), *(f"## {name}\n\n{body}" for name, body in known.items())]) + "\n")
