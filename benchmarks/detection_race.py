"""Detection from plain regression to single shots, raced: the same trunk, scenes and machine for all.

python benchmarks/detection_race.py [--quick] [--seeds=3] [--share=1.0] [--runs=FOLDER] [--only=PATTERN]

Each system learns by its recipe in configs/, on one trunk and the same images and regions, and is then timed image by image.
The second half asks what single ideas are worth, with several seeds. A run that is there is not done again, one that was cut
off begins anew; docs/claims.md is written at the end. --share: of the recipes' steps. --quick is the race alone with one seed,
few steps and few images, to see that the command works, and prints only.
A claim whose difference is within the spread of its seeds is undecided; one that does not hold is said not to.
"""

import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import pathlib
import shutil
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
from claims import command, judged, mean_and_spread, place, shortened, table
from claims import recipe as load_recipe

from jaxvision import config as configs

QUICK, FEW = 0.06, "train[:300]"  # of the recipes' steps, and of the images
SEEN = "train[:50%]"  # of the images, by all in the race: R-CNN's take long
TRAINED = "trained.json"
TIMED = 30  # images, after one that compiles
DEPTHS, WIDTHS = (1, 1, 2, 2, 1), (16, 32, 64, 128, 128)  # the trunk: VGG's blocks, with BatchNorm
BLOCKS = tuple(((width, 3, 1),) * depth for depth, width in zip(DEPTHS, WIDTHS))  # the same as YOLO's trunk names them
SCORES = ("box/AP", "box/AP50", "box/AP75", "mask/AP", "mask/AP75")
RPN = dict(
    anchor_sizes=((16, 23, 32, 45, 64, 90),),
    border_anchors=True,
    rpn_features=96,
    rpn_samples=128,
    rpn_min_side=4,
    pre_nms=(256, 256),
    post_nms=(64, 96),
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is trained and measured.

    recipe: of configs/. options: of the architecture, where they differ from the recipe's. data: the same of the data.
    blocks: of the trunk, as many as its maps need. parts: of a prediction, in order: (name, the output with which it ends).
    of: the entry whose run is only looked at with other options, instead of a training.
    """

    recipe: str
    options: dict = dataclasses.field(default_factory=dict)
    data: dict = dataclasses.field(default_factory=dict)
    blocks: int = 0
    parts: Sequence[tuple[str, str]] = ()
    of: str = ""


FASTER = dict(name="faster_rcnn", **RPN)
TRUNK, PROPOSED = ("trunk", "c4"), ("proposals", "proposals")
RACE = {
    "Regression": Entry("regression_detector_scenes", blocks=5, parts=(("trunk", "c5"),)),
    "Sliding window": Entry("sliding_window_detector_scenes", parts=(("windows", "c3"),)),
    "R-CNN": Entry("rcnn_scenes", blocks=5, parts=(("regions through the trunk", "c5"),)),
    "SPP-net": Entry("sppnet_scenes", blocks=5, parts=(("trunk", "c3"),)),
    "Fast R-CNN": Entry("fast_rcnn_scenes", blocks=4, parts=(TRUNK,)),
    "Faster R-CNN": Entry("fast_rcnn_scenes", FASTER, {"proposals": {}}, 4, (TRUNK, PROPOSED)),
    "YOLO": Entry("yolo_scenes", dict(stages=BLOCKS), parts=(("trunk", "c5"),)),
    "SSD": Entry("ssd_scenes", blocks=5, parts=(("trunk", "c4"),)),
}
C4, FPN = "faster_rcnn_c4_scenes", "quickstart"
BY_CLASS = dict(class_agnostic=False)
IDEAS = {
    "RoI pooling": Entry(FPN, dict(roi_op="pool")),
    "RoIAlign": Entry(FPN),
    "masks by sigmoids": Entry(FPN, BY_CLASS),
    "masks by a softmax": Entry(FPN, dict(**BY_CLASS, mask_rule="softmax")),
    "joint training": Entry(C4),
    "alternating training": Entry("faster_rcnn_alternating_scenes"),
    "without OHEM": Entry("fast_rcnn_scenes"),
    "with OHEM": Entry("fast_rcnn_scenes", dict(ohem=True)),
}
COUNTS, SIDES = (5, 10, 20, 50), (96, 160)
SPEED = {
    **{f"{n} proposals": Entry(C4, dict(post_nms=(64, n)), of="joint training") for n in COUNTS},
    **{f"{side} pixels": Entry(C4, data={"canvas": (side, side)}) for side in SIDES},
    "half the widths": Entry(C4, dict(widths=(24, 48, 72), stem_width=12)),
}
ENTRIES = {**RACE, **IDEAS, **SPEED}
CLAIMS = (
    ("RoIAlign over RoI pooling, boxes", "RoIAlign", "RoI pooling", "box/AP"),
    ("and strictly", "RoIAlign", "RoI pooling", "box/AP75"),
    ("masks", "RoIAlign", "RoI pooling", "mask/AP"),
    ("and strictly", "RoIAlign", "RoI pooling", "mask/AP75"),
    ("a sigmoid for each class over a softmax of all", "masks by sigmoids", "masks by a softmax", "mask/AP"),
    ("alternating training over joint training", "alternating training", "joint training", "box/AP"),
    ("hard examples over random ones", "with OHEM", "without OHEM", "box/AP"),
)
# (hours to train, seconds an image without proposals, VOC07 mAP) with VGG16: Girshick 2015, table 4, on a K40; Ren et al. 2015
# on a K40; Redmon et al. 2016 and Liu et al. 2016 on a Titan X, trained on VOC07+12.
PAPERS = {
    "R-CNN": (84, 47.0, 66.0),
    "SPP-net": (25, 2.3, 63.1),
    "Fast R-CNN": (9.5, 0.32, 66.9),
    "Faster R-CNN": (None, 0.198, 69.9),
    "YOLO": (None, 1 / 45, 63.4),
    "SSD": (None, 1 / 46, 74.3),
}


def recipe(name: str, seed: int, share: float, changes=None):
    """The config of an entry: its recipe, on the race's trunk where it is in the race, with `share` of the steps."""
    entry = ENTRIES[name]
    config = load_recipe(entry.recipe)
    trunk = dict(depths=DEPTHS[: entry.blocks], widths=WIDTHS[: entry.blocks]) if entry.blocks else {}
    data = {"test": "", "validation": "validation[:8]"}  # it is scored when the clock has stopped
    data |= ({"train": SEEN} if name in RACE else {}) | entry.data
    config = configs.override(config, {"architecture": {**config.architecture.to_dict(), **trunk, **entry.options}})
    stages = tuple(on_trunk(stage, trunk) for stage in config.stages)
    config = shortened(configs.override(config, {"seed": seed, "data": data, "stages": stages}), share)
    return configs.override(config, changes or {})


def on_trunk(stage: dict, trunk: dict) -> dict:
    """A stage, which pretrains the trunk if it has a classifier's."""
    architecture = stage.get("architecture", {})
    if not trunk or "backbone" not in architecture:
        return stage
    return {**stage, "architecture": {**architecture, "backbone": {**architecture["backbone"], **trunk}}}


def prepare(config) -> None:
    """Makes the data and the proposals of all stages, so that no clock runs meanwhile."""
    from jaxvision import tasks
    from jaxvision.train.loop import make_batches

    for stage in config.stages or ({},):
        own = configs.override(config, {"data": stage.get("data", {})})
        for split in ("train", "validation"):
            make_batches(own, split, tasks.get("detection"), train=False)


def train(name: str, seed: int, share: float, runs: pathlib.Path, changes=None) -> None:
    """Trains an entry from nothing, and writes TRAINED into its folder: seconds of each part, in order, and of all of them,
    compilation included, and the peak of memory in MiB."""
    from jaxvision.train.stages import run

    config, directory, found = recipe(name, seed, share, changes), place(runs, name, seed), {}
    prepare(config)
    shutil.rmtree(directory, ignore_errors=True)  # what was cut off cannot be timed
    clock = time.time()
    run(config, str(directory))
    for stage in config.stages:
        ended = (directory / stage["name"] / "finished.json").stat().st_mtime
        found[f"train/{stage['name']}"], clock = ended - clock, ended
    if not config.stages:
        found["train/network"] = time.time() - clock
    found |= {"train": sum(found.values()), "train MiB": peak()}
    (directory / TRAINED).write_text(json.dumps(found))


def look(name: str, seed: int, runs: pathlib.Path, changes=None) -> dict[str, float]:
    """Scores of a trained entry, and what one image costs: ms of each part, of all without and with given proposals."""
    from jaxvision import create, tasks
    from jaxvision.data import proposals
    from jaxvision.runs import load_run
    from jaxvision.train import sharding
    from jaxvision.train.evaluate import evaluate, make_eval_step
    from jaxvision.train.loop import make_batches

    entry = ENTRIES[name]
    config, architecture, variables, _ = load_run(str(place(runs, entry.of or name, seed)))
    config = configs.override(config, {"data": {"validation": "validation"}, **(changes or {})})
    if entry.of:
        architecture = create(architecture.name, **{**architecture.options, **entry.options})
    batches = make_batches(config, "validation", tasks.get(architecture.task), train=False)
    kept = ("image", "image_size", "proposals", "proposals_valid")
    batch = {field: value[:1] for field, value in batches[0].items() if field in kept}
    found, before, search = {}, 0.0, 0.0
    for part, end in entry.parts:
        until = milliseconds(lambda v, b, end=end: architecture.model.apply(v, b)[end], variables, batch)
        found[f"test/{part}"], before = until - before, until
    network = milliseconds(lambda v, b: architecture.predict(architecture.model.apply(v, b), b), variables, batch)
    found["test/heads" if entry.parts else "test/network"] = network - before
    if config.data.proposals:
        method = proposals.build(config.data.proposals.to_dict())
        images = [batches.source[i]["image"] for i in range(min(TIMED, len(batches.source)))]
        began = time.perf_counter()
        for image in images:
            method(image)
        search = 1e3 * (time.perf_counter() - began) / len(images)
        found["test/region search"] = search
    found |= {"without": network, "with": network + search, "test MiB": peak()}
    scores, _ = evaluate(make_eval_step(architecture), variables, architecture, batches, sharding.make_mesh())
    return found | {metric: scores[metric] for metric in SCORES if metric in scores}


def milliseconds(function: Callable, *arguments) -> float:
    """Of the median call, compiled."""
    compiled, times = jax.jit(function), []
    arguments = jax.device_put(arguments)
    for _ in range(TIMED + 1):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - began)
    return 1e3 * float(np.median(times[1:]))


def peak() -> float:
    """The most memory that this process has had, in MiB: of the accelerator, or without one of the machine."""
    if stats := jax.local_devices()[0].memory_stats():
        return stats["peak_bytes_in_use"] / 2**20
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def shares(found: dict[str, np.ndarray], kind: str, whole: str) -> str:
    """Its parts, and the percentage of each."""
    parts = {name.partition("/")[2]: value.mean() for name, value in found.items() if name.startswith(f"{kind}/")}
    return ", ".join(f"{name} {100 * value / found[whole].mean():.0f}%" for name, value in parts.items())


def race(found: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """The table of the race and the sentences below it, as far as the runs are there."""
    rows = []
    for name in filter(found.__contains__, RACE):
        of = found[name]
        hours, seconds, precision = PAPERS.get(name, (None,) * 3)
        paper = [f"{hours} h" if hours else "-", f"{seconds:.3g} s" if seconds else "-", f"{precision or '-'}"]
        numbers = [f"{of['train'].mean():.0f}", f"{of['with'].mean():.1f}", f"{of['without'].mean():.1f}"]
        memory = [f"{of[f'{kind} MiB'].mean():.0f}" for kind in ("train", "test")]
        scored = [mean_and_spread(of[metric]) for metric in ("box/AP50", "box/AP")]
        rows.append(
            (name, *scored, *numbers, *memory, shares(of, "train", "train"), shares(of, "test", "with"), *paper)
        )
    columns = ("system", "AP50", "AP", "train, s", "image, ms", "without proposals, ms", "train, MiB", "test, MiB")
    columns += ("of the training", "of an image", "paper: train", "image", "VOC07 mAP")
    return [*table(columns, rows), "", *sentences(found)]


def sentences(found: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """The ratios of which the papers speak, beside theirs."""
    lines = []
    for slow, kind, key, column, wanted in (
        ("R-CNN", "trains", "train", 0, 5),
        ("SPP-net", "trains", "train", 0, None),
        ("R-CNN", "tests, without proposals,", "without", 1, 10),
        ("SPP-net", "tests, without proposals,", "without", 1, None),
    ):
        if slow in found and "Fast R-CNN" in found:
            ratio = float((found[slow][key] / found["Fast R-CNN"][key]).mean())
            theirs = PAPERS[slow][column] / PAPERS["Fast R-CNN"][column]
            judgement = "" if wanted is None else f" At least {wanted} was expected: {said(ratio >= wanted)}."
            lines.append(
                f"- Fast R-CNN {kind} {ratio:.1f} times as fast as {slow}, in the papers {theirs:.0f} times.{judgement}"
            )
    if "Faster R-CNN" in found:
        of = found["Faster R-CNN"]
        share = float((of["test/proposals"] / of["with"]).mean())
        lines.append(
            f"- Proposals take {share:.0%} of Faster R-CNN's time for an image, in the paper 5% (10 of 198 ms). "
            f"Under 20% was expected: {said(share < 0.2)}."
        )
    return lines


def said(holds: bool) -> str:
    return "it holds" if holds else "it does not hold"


def speeds(found: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """What the number of proposals, the size of the image and the trunk cost and bring."""
    names = [name for name in ("joint training", *SPEED) if name in found]
    rows = [
        ("96 proposals, 128 pixels" if name == "joint training" else name,)
        + tuple(mean_and_spread(found[name][metric]) for metric in ("box/AP", "box/AP50"))
        + (f"{found[name]['with'].mean():.1f}",)
        for name in names
    ]
    return table(("Faster R-CNN on C4", "AP", "AP50", "image, ms"), rows)


def work(name: str, seed: int, share: float, runs: pathlib.Path, quick: bool) -> dict[str, float]:
    """A training that has ended is not done again where the look at it was cut off."""
    found, began = {}, time.time()
    if not ENTRIES[name].of:
        path = place(runs, name, seed) / TRAINED
        if not path.exists():
            apart(train, name, seed, share, runs, {"data": {"train": FEW}} if quick else None)
        found, began = json.loads(path.read_text()), time.time()
    found |= look(name, seed, runs, {"data": {"validation": "validation[:100]"}} if quick else None)
    return {**found, "seconds": found.get("train", 0) + time.time() - began}


def apart(function: Callable, *arguments):
    """Calls it in a process of its own, whose peak of memory is not this one's."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def report(found: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """The race, the claims and the table of speeds, as far as their runs are there."""
    parts = ((RACE, race), (IDEAS, functools.partial(judged, CLAIMS)), (SPEED, speeds))
    tables = [table_of(found) for entries, table_of in parts if entries.keys() & found.keys()]
    hours = sum(of["seconds"].sum() for of in found.values()) / 3600
    return [*(line for lines in tables for line in (*lines, "")), f"All of it took {hours:.2f} hours."]


def head(seeds: int, share: float) -> list[str]:
    return [
        f"By `python benchmarks/detection_race.py --seeds={seeds} --share={share:g}`: every system learns by its recipe from",
        f"the embedded scenes, in {share:g} of its steps, and is scored on 500 others; the systems of the first table have one",
        f"trunk as far as they have that of VGG, and `{SEEN}` to learn from. Seconds of a training hold its compilations, and as",
        "in the papers no search for regions; an image is seen alone, on the machine's cores. Means of the seeds and their",
        "standard deviations; a difference is taken seed by seed. The papers' numbers are VGG16's on a K40, of YOLO and SSD",
        "a Titan X's; these two learnt from VOC 2012 as well.",
    ]


def main(arguments=None) -> None:
    names, quick = list(ENTRIES), list(RACE)
    command(__doc__, __file__, "Detection", names, quick, QUICK, work, report, head, "runs/race", arguments, once=quick)


if __name__ == "__main__":
    main()
