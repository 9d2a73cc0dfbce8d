"""What weak labels cost: scores of a classifier, a detector and a segmenter against the amount of each kind of weakness.

python benchmarks/weak_supervision.py [--quick] [--seeds=3] [--share=1.0] [--runs=FOLDER] [--only=PATTERN]

Each learns on the embedded scenes with the same steps, whatever is left of the labels, and is scored on the clean validation
split. A run that is there is not done again; docs/claims.md is written at the end. --quick is one seed, few steps and the greatest
amounts, to see that the command works, and prints only. --share: of the recipes' steps.
"""

import dataclasses
import pathlib
import time

import numpy as np
from claims import command, judged, mean_and_spread, place, recipe, shortened, table

from jaxvision import config as configs

QUICK = 0.03  # of the recipes' steps
TITLE = "Weak supervision, kind by kind"


@dataclasses.dataclass(frozen=True)
class Task:
    """recipe: of configs/, with the share of its steps that suffices here; metric: by which it is scored."""

    recipe: str
    share: float
    metric: str


TASKS = {
    "classification": Task("resnet_scenes", 0.5, "top1"),
    "detection": Task("yolo_scenes", 0.5, "box/AP50"),
    "segmentation": Task("fcn8s_scenes", 0.4, "mean_iu"),
}
SHARES, RATES = (0.5, 0.25, 0.1, 0.05), (0.1, 0.2, 0.4, 0.6)
FULL, IMAGES = "all labels", "segmentation, image-level labels"


@dataclasses.dataclass(frozen=True)
class Run:
    """kind, amount: what is done to the labels, as the table has it; weak: the same as `data.weak`."""

    task: str
    kind: str
    amount: str
    weak: dict


def _runs() -> dict[str, Run]:
    runs = {}
    for task in TASKS:
        runs[f"{task}, {FULL}"] = Run(task, "-", FULL, {})
        for share in SHARES:
            weak = {"incomplete": {"share": share}}
            runs[f"{task}, {share:.0%} labelled"] = Run(task, "incomplete", f"{share:.0%} labelled", weak)
        for rate in RATES:
            weak = {"inaccurate": {"rate": rate}}
            runs[f"{task}, {rate:.0%} wrong"] = Run(task, "inaccurate", f"{rate:.0%} wrong", weak)
    runs["segmentation, boxes"] = Run("segmentation", "inexact", "boxes as masks", {"inexact": {"level": "box"}})
    runs[IMAGES] = Run("segmentation", "inexact", "image-level, by pseudo labels", {})
    return runs


RUNS = _runs()
FEW, NOISY = f"{SHARES[2]:.0%} labelled", f"{RATES[2]:.0%} wrong"
QUICKLY = [f"{task}, {amount}" for task in TASKS for amount in (FULL, FEW, NOISY)] + ["segmentation, boxes", IMAGES]
CLAIMS = (
    *((f"{task}: all labels over a tenth of them", f"{task}, {FULL}", f"{task}, {FEW}", "score") for task in TASKS),
    *((f"{task}: clean labels over noisy ones", f"{task}, {FULL}", f"{task}, {NOISY}", "score") for task in TASKS),
    *((f"{task}: noisy labels over few clean ones", f"{task}, {NOISY}", f"{task}, {FEW}", "score") for task in TASKS),
    ("segmentation: masks over boxes", f"segmentation, {FULL}", "segmentation, boxes", "score"),
    ("segmentation: boxes over image-level labels", "segmentation, boxes", IMAGES, "score"),
)


def plan(name: str, seed: int, share: float, changes=None):
    """The config of a run. The seed chooses the labels too."""
    run = RUNS[name]
    task = TASKS[run.task]
    weak = {kind: {**settings, **({} if kind == "inexact" else {"seed": seed})} for kind, settings in run.weak.items()}
    config = recipe(task.recipe)
    if name == IMAGES:  # its segmenter is the task's, with the task's steps
        weakly, steps = recipe("weakly_supervised_scenes"), int(config.steps * task.share)
        *before, last = weakly.stages
        last = {**last, "architecture": config.architecture.to_dict(), "steps": steps}
        last["optimizer"] = {**last.get("optimizer", {}), "learning_rate": config.optimizer.learning_rate}
        config = shortened(configs.override(weakly, {"stages": (*before, last), "data": {"test": ""}}), share)
    else:
        config = shortened(configs.override(config, {"data": {"test": "", "weak": weak}}), share * task.share)
    return configs.override(configs.override(config, {"seed": seed}), changes or {})


def work(name: str, seed: int, share: float, runs: pathlib.Path, quick: bool, changes=None) -> dict[str, float]:
    """Trains a run and returns its score."""
    from jaxvision.train.stages import run

    few = {"data": {"train": "train[:500]", "validation": "validation[:100]"}} if quick else {}
    config, began = plan(name, seed, share, few | (changes or {})), time.perf_counter()
    scores = run(config, str(place(runs, name, seed)))["validation"]
    return {"score": scores[TASKS[RUNS[name].task].metric], "seconds": time.perf_counter() - began}


def report(found: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """The scores by amount, and what they say, as far as the runs are there."""
    rows = []
    for name, of in found.items():
        run = RUNS[name]
        whole = found.get(f"{run.task}, {FULL}")
        part = f"{100 * of['score'].mean() / whole['score'].mean():.0f}%" if whole and whole["score"].mean() else "-"
        task = f"{run.task} ({TASKS[run.task].metric})"
        rows.append((task, run.kind, run.amount, mean_and_spread(of["score"]), part, f"{of['seconds'].mean():.0f}"))
    lines = table(("task", "kind", "labels", "score", "of that with all labels", "s"), rows)
    return [*lines, "", *judged(CLAIMS, found)]


def head(seeds: int, share: float) -> list[str]:
    return [
        f"By `python benchmarks/weak_supervision.py --seeds={seeds} --share={share:g}`: networks learn from 4000 embedded scenes,",
        "with the same steps whatever is left of the labels, and are scored on 500 others, whose labels are right. Which images",
        "stay without labels and which labels are wrong changes with the seed. What makes maps of image-level labels is a",
        "classifier that has learnt from 4000 scenes of one object before. Means of the seeds and their standard deviations; a",
        "difference is taken seed by seed, and one within its spread is undecided.",
    ]


def main(arguments=None) -> None:
    command(__doc__, __file__, TITLE, list(RUNS), QUICKLY, QUICK, work, report, head, "runs/weak", arguments)


if __name__ == "__main__":
    main()
