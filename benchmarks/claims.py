"""What the tables of claims share: recipes with fewer steps, where runs are kept, the spread of seeds, verdicts, the page's
parts, and the command itself."""

import argparse
import json
import pathlib
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxvision import config as configs

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs" / "claims.md"
TITLE = "# Claims of the literature"


def recipe(name: str, *arguments):
    """The config of configs/NAME.py."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))  # recipes import one another
    return runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"](*arguments)


def shortened(config, share: float):
    """A config whose trainings, stage by stage, take `share` of their steps, and are scored and saved at the end."""

    def short(steps):
        steps = max(2, int(steps * share))
        return {"steps": steps, "evaluate": {"every": steps}, "checkpoint": {"every": steps}}

    def warmed(optimizer, steps):
        return {"optimizer": {**optimizer, "warmup": min(optimizer["warmup"], steps // 2)}}

    stages = []
    for stage in config.stages:
        if "fit" not in stage:
            changes = short(stage.get("steps", config.steps))
            optimizer = {"warmup": config.optimizer.warmup, **stage.get("optimizer", {})}
            changes |= warmed(optimizer, changes["steps"])
            stage = {**stage, **changes, "evaluate": {**stage.get("evaluate", {}), **changes["evaluate"]}}
        stages.append(stage)
    changes = short(config.steps)
    changes |= warmed({"warmup": config.optimizer.warmup}, changes["steps"])
    return configs.override(config, {**changes, "stages": tuple(stages)})


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


def command(
    doc: str,
    script: str,
    title: str,
    names: Sequence[str],
    quick: Sequence[str],
    share: float,
    work: Callable[[str, int, float, pathlib.Path, bool], dict[str, float]],
    report: Callable[[dict], list[str]],
    head: Callable[[int, float], list[str]],
    runs: str,
    arguments: Sequence[str] | None = None,
    once: Sequence[str] = (),
) -> None:
    """A benchmark's command line, whose usage is `doc`: runs what is missing, prints the tables and writes its part of the page.

    names: of all runs; quick, share: those of --quick, and the share of the steps that they take. work: (name, seed, share,
    folder, whether it is quick) to what a run finds. report: {name: {metric: values}} to the page's lines; head: (seeds, share)
    to those above. runs: the folder of the runs. once: names that are run with one seed, whatever the others have.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, few steps, nothing written to docs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the recipes' steps")
    parser.add_argument("--runs", default=runs, help="folder that keeps the runs")
    parser.add_argument("--only", default="", help="only the runs whose name this pattern finds")
    parser.add_argument("--worker", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    seeds, share = (1, share) if options.quick else (options.seeds, options.share)
    folder = pathlib.Path(options.runs).absolute() / ("quick" if options.quick else f"share{share:g}")
    if options.worker:
        name, seed = options.worker[0], int(options.worker[1])
        return keep(folder, name, seed, work(name, seed, share, folder, options.quick))
    chosen = [name for name in (quick if options.quick else names) if re.search(options.only, name)]
    own = [f"--share={options.share}", f"--runs={options.runs}", *(["--quick"] if options.quick else [])]
    own_seeds = {name: 1 if name in once else seeds for name in chosen}
    for count in sorted(set(own_seeds.values())):
        run_all(script, own, folder, [name for name in chosen if own_seeds[name] == count], count)
    text = report({name: values(folder, name, count) for name, count in own_seeds.items()})
    print("\n".join(text))
    if not options.quick and not options.only:
        write_part(title, [*head(seeds, share), "", *text])
