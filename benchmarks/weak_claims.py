"""What the literature says of localisation, explanation, pose and weak supervision, tried on the embedded scenes.

python benchmarks/weak_claims.py [--quick] [--seeds=3] [--share=1.0] [--runs=FOLDER] [--only=PATTERN]

Trains each variant with several seeds, each in a folder of its own, where a run that is there is not done again, scores it on the
validation split, and writes docs/claims.md. --quick is one seed and few steps, to see that the command works, and prints only.
A claim whose difference is within the spread of its seeds is undecided; one that does not hold is said not to.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np
from claims import command, judged, mean_and_spread, place, recipe, shortened, table

from jaxvision import config as configs

QUICK = 0.03  # of the steps
TITLE = "Localisation, pose and weak supervision"
STEPS = 750  # of 32 images of one object, or of one person
FEW = "train[:500]"  # from which a network over-fits
RATES = (1e-3, 3e-3, 1e-2)
SLOW = (1e-4, 1e-3)  # dense layers on thousands of cells die at the others' rate

# One trunk for all: VGG's blocks with BatchNorm, and where there are maps of classes a last one of 16 x 16 cells.
VGG = dict(name="vgg", depths=(1, 1, 2, 2), widths=(16, 32, 64, 128), norm="batch")
MAPS = dict(backbone=dict(**VGG, last_pool=False), layer="c4", convs=(128,), norm="batch")
DENSE = dict(backbone=VGG, cells=4, fc=(192,), dropout=0.1)
BOXES, POSE = dict(name="classification_localization", **DENSE), dict(name="pose", **DENSE)
CAM = dict(name="cam", dropout=0.0, **MAPS)
ACOL = dict(name="acol", width=128, **{name: value for name, value in MAPS.items() if name != "convs"})


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is trained and measured.

    architecture, data: where they differ from the recipe's. recipe: of configs/, and its argument. stages: in place of a
    training of STEPS, with shares of these. rates: of learning, of which the one that does best on a tenth of the training
    images counts. look: the directory of the run to what else is measured. of: the entry whose run is only looked at.
    """

    architecture: dict = dataclasses.field(default_factory=dict)
    data: dict = dataclasses.field(default_factory=dict)
    recipe: tuple[str, ...] = ("resnet_scenes",)
    stages: tuple[dict, ...] = ()
    rates: tuple[float, ...] = ()
    look: Callable[[pathlib.Path], dict[str, float]] | None = None
    of: str = ""


def opened(directory: pathlib.Path, split: str = "validation"):
    """(config, architecture, variables, task, its batches of a split in order) of a run's directory."""
    from jaxvision import tasks
    from jaxvision.runs import load_run
    from jaxvision.train.loop import make_batches

    config, architecture, variables, _ = load_run(str(directory))
    config = configs.override(config, {"data": {"validation": split}})
    task = tasks.get(architecture.task)
    return config, architecture, variables, task, make_batches(config, "validation", task, train=False)


def box_accuracy(directory: pathlib.Path) -> dict[str, float]:
    """MaxBoxAccV2 of a network that says one box of the true class: the mean over IoUs of the share that is right."""
    from jaxvision.data.overlaps import iou
    from jaxvision.data.sources import rows_by_id
    from jaxvision.metrics.max_box_acc import IOUS
    from jaxvision.train import sharding
    from jaxvision.train.evaluate import make_eval_step, results

    _, architecture, variables, task, batches = opened(directory)
    rows, right = rows_by_id(batches.source), []
    for image_id, result, _ in results(make_eval_step(architecture), variables, task, batches, sharding.make_mesh()):
        truth = task.truth(batches.source.annotations(rows[int(image_id)]))
        best = iou(result["class_boxes"][[truth["label"]]], truth["boxes"]).max()
        right.append([best >= threshold for threshold in IOUS])
    return {"max_box_acc_v2": float(np.mean(right))}


def over_fitting(directory: pathlib.Path) -> dict[str, float]:
    """Parameters, and by how much the training images are classified better than others."""
    from jaxvision.train import sharding
    from jaxvision.train.evaluate import evaluate, make_eval_step

    top = {}
    for split in (FEW, "validation"):
        _, architecture, variables, _, batches = opened(directory, split)
        scores, _ = evaluate(make_eval_step(architecture), variables, architecture, batches, sharding.make_mesh())
        top[split] = scores["top1"]
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return {"gap": top[FEW] - top["validation"], "parameters": float(parameters)}


def pointing(method: str) -> Callable[[pathlib.Path], dict[str, float]]:
    """The pointing game of a way to explain the image's class, by the highest place of its map."""

    def look(directory):
        from jaxvision.data.sources import label_names, rows_by_id
        from jaxvision.explain.grad_cam import grad_cam
        from jaxvision.explain.saliency import saliency
        from jaxvision.metrics.pointing import PointingGame
        from jaxvision.metrics.score_maps import resize_map

        _, architecture, variables, _, batches = opened(directory)
        rows, game = rows_by_id(batches.source), PointingGame(len(label_names(batches.source)))
        forward = jax.jit(lambda v, b: architecture.model.apply(v, b)["class_maps"])
        apart, greatest = 0.0, 0.0
        for t in range(len(batches)):
            batch = batches[t]
            seen, label = {name: batch[name] for name in ("image", "image_size")}, batch["label"]
            own = np.asarray(forward(variables, seen))
            maps = np.take_along_axis(own, label[:, None, None, None], 3)[..., 0]
            if method == "Grad-CAM":
                cam, maps = maps, np.asarray(grad_cam(architecture, variables, seen, "gap", label[:, None]))[:, 0]
                apart = max(apart, abs(cam.clip(0) / cam[0].size - maps).max())
                greatest = max(greatest, maps.max())
            elif method == "guided":
                signals = np.asarray(saliency(architecture, variables, seen, label[:, None], rule="guided"))
                maps = abs(signals[:, 0]).max(-1)
            for i in np.flatnonzero(batch["real"]):
                truth = batches.source.annotations(rows[int(batch["image_id"][i])])
                mask = truth["masks"][truth["classes"] == label[i] + 1].any(0)
                game.update(resize_map(maps[i], mask.shape), int(label[i]), mask)
        found = {"pointing": game.compute()}
        return found | ({"apart": float(apart / greatest)} if method == "Grad-CAM" else {})

    return look


def of_labels(directory: pathlib.Path) -> dict[str, float]:
    """Mean IU of the pseudo labels themselves, on the first 500 training images."""
    from jaxvision.data.pseudo_labels import with_pseudo_labels
    from jaxvision.data.sources import open_source
    from jaxvision.metrics.confusion import ConfusionMatrix

    source = open_source("scenes/shapes", FEW)
    made, matrix = with_pseudo_labels(source, str(directory / "labels")), ConfusionMatrix(len(source.class_names))
    for i in range(len(source)):
        semantic = made.annotations(i)["semantic"]
        truth = np.where(semantic == 255, 255, source.annotations(i)["semantic"])
        matrix.update(semantic, truth)
    return {"labels": matrix.compute()["mean_iu"]}


FROZEN = (  # a trunk that classifies, then a head on it, then both
    dict(name="classify", share=0.4, architecture=CAM),
    dict(
        name="head",
        share=0.2,
        architecture=dict(**BOXES, norm="frozen"),
        init=(("^trunk/", "classify"), (".*", "fresh")),
        optimizer=dict(trainable="^(?!trunk/)"),
    ),
    dict(name="all", share=0.4, init=((".*", "head"),), optimizer=dict(learning_rate=1e-3)),
)
PIPELINE, CRF, PLAIN, MASKS = "weakly_supervised_scenes", "pseudo labels with CRF", "pseudo labels", "full masks"
LOCALISATION = {
    "CAM": Entry(CAM),
    "ACoL": Entry(ACOL),
    "ACoL, nothing erased": Entry(dict(**ACOL, branches="plain")),
    "boxes": Entry(BOXES, look=box_accuracy),
}
POINTING = {
    "CAM's maps": Entry(of="CAM", look=pointing("CAM")),
    "Grad-CAM": Entry(of="CAM", look=pointing("Grad-CAM")),
    "guided backpropagation": Entry(of="CAM", look=pointing("guided")),
}
POOLING = {
    "GAP": Entry(CAM, dict(train=FEW), look=over_fitting),
    "flattened": Entry(dict(**VGG, fc=512, dropout=0.0), dict(train=FEW), rates=SLOW, look=over_fitting),
    "flattened, dropout": Entry(dict(**VGG, fc=512, dropout=0.5), dict(train=FEW), rates=SLOW, look=over_fitting),
}
TRAINING = {
    "frozen, then all": Entry(BOXES, stages=FROZEN),
    "one box": Entry(dict(**BOXES, per_class=False)),
}
LOSSES = {
    f"joints by {name}": Entry(dict(**POSE, loss=loss), dict(source="scenes/people"), rates=RATES)
    for name, loss in (("L2", "l2"), ("L1", "l1"), ("smooth L1", "smooth_l1"))
}
LABELS = {
    CRF: Entry(recipe=(PIPELINE, "cam,crf"), look=of_labels),
    PLAIN: Entry(recipe=(PIPELINE, "cam,nocrf"), look=of_labels),
    MASKS: Entry(recipe=(PIPELINE, "masks")),
}
ENTRIES = {**LOCALISATION, **POINTING, **POOLING, **TRAINING, **LOSSES, **LABELS}
V2, KNOWN = "max_box_acc_v2", "loc/gt_known"
CLAIMS = (
    ("erasing finds more of the object", "ACoL", "ACoL, nothing erased", KNOWN),
    ("and at the best threshold", "ACoL", "ACoL, nothing erased", V2),
    ("ACoL over CAM", "ACoL", "CAM", KNOWN),
    ("and at the best threshold", "ACoL", "CAM", V2),
    ("supervised boxes over maps", "boxes", "CAM", KNOWN),
    ("and at the best threshold", "boxes", "CAM", V2),
    ("CAM points better than guided backpropagation", "CAM's maps", "guided backpropagation", "pointing"),
    ("and so does Grad-CAM", "Grad-CAM", "guided backpropagation", "pointing"),
    ("a flattened map over-fits more than its average", "flattened", "GAP", "gap"),
    ("an average generalises better", "GAP", "flattened", "top1"),
    ("and better than with dropout", "GAP", "flattened, dropout", "top1"),
    ("a trained trunk, frozen, then all, over joint training", "frozen, then all", "boxes", "loc/top1"),
    ("a box for each class over one box", "boxes", "one box", "loc/top1"),
    ("joints: L1 over L2", "joints by L1", "joints by L2", "pck@0.2"),
    ("joints: smooth L1 over L2", "joints by smooth L1", "joints by L2", "pck@0.2"),
    ("a CRF improves pseudo labels", CRF, PLAIN, "labels"),
    ("and what is learnt from them", CRF, PLAIN, "mean_iu"),
    ("masks over pseudo labels", MASKS, CRF, "mean_iu"),
)
KEPT = ("top1", "loc/top1", KNOWN, "max_box_acc", V2, "pck@0.2", "mean_iu")


def plan(name: str, seed: int, share: float, runs: pathlib.Path, changes=None):
    """The config of an entry. What goes without a CRF has the classifier of the run that has one."""
    entry = ENTRIES[name]
    config = recipe(*entry.recipe)
    if entry.recipe[0] == PIPELINE:
        if name == PLAIN:
            *_, labels, segment = config.stages
            origin = str(place(runs, CRF, seed) / "classify")
            config.stages = ({**labels, "init": ((".*", origin),)}, segment)
    else:
        config.steps, config.architecture = STEPS, dict(entry.architecture)
        stages = []
        for stage in entry.stages:
            stage = {**stage, "steps": int(stage["share"] * STEPS)}
            stages.append({key: value for key, value in stage.items() if key != "share"})
        config.stages = tuple(stages)
    data = {"test": "", **entry.data}
    config = shortened(configs.override(config, {"seed": seed, "data": data}), share)
    return configs.override(config, changes or {})


def work(name: str, seed: int, share: float, runs: pathlib.Path, quick: bool, changes=None) -> dict[str, float]:
    """Trains an entry, or looks at another's run, and returns what is measured."""
    from jaxvision.train.stages import run

    entry, directory, began = ENTRIES[name], place(runs, name, seed), time.perf_counter()
    if entry.of:
        return {**entry.look(place(runs, entry.of, seed)), "seconds": time.perf_counter() - began}
    few = {"data": {"train": FEW, "validation": "validation[:100]"}} if quick else {}
    changes = {**few, **(changes or {})}
    config, found = plan(name, seed, share, runs, changes), {}
    if entry.rates:
        scores, directory, rate = chosen(config, entry.rates[1:2] if quick else entry.rates, directory)
        found["rate"] = rate
    else:
        scores = run(config, str(directory))["validation"]
    found |= {metric: scores[metric] for metric in KEPT if metric in scores}
    if entry.look:
        found |= entry.look(directory)
    return {**found, "seconds": time.perf_counter() - began}


def chosen(config, rates, directory: pathlib.Path) -> tuple[dict[str, float], pathlib.Path, float]:
    """(scores of the validation split, where it ran, rate) of the learning rate that does best on the last tenth of the
    training images, which are not learnt from."""
    from jaxvision.train.stages import run

    learnt = "train[:90%]" if config.data.train == "train" else config.data.train
    data = {"train": learnt, "validation": "train[90%:]", "test": config.data.validation}
    found = {}
    for rate in rates:
        of_rate = configs.override(config, {"data": data, "optimizer": {"learning_rate": rate}})
        found[rate] = run(of_rate, str(directory / f"rate_{rate:g}"))
    metric = next(name for name in ("pck@0.2", "top1") if name in found[rates[0]]["validation"])
    best = max(rates, key=lambda rate: found[rate]["validation"][metric])
    return found[best]["test"], directory / f"rate_{best:g}", best


TABLES = {
    "localisation": ((*LOCALISATION, "one box", "frozen, then all"), ("top1", "loc/top1", KNOWN, "max_box_acc", V2)),
    "what points at the object": (tuple(POINTING), ("pointing",)),
    "500 images": (tuple(POOLING), ("parameters", "top1", "gap", "rate")),
    "joints": (tuple(LOSSES), ("pck@0.2", "rate")),
    "segmentation": (tuple(LABELS), ("labels", "mean_iu")),
}


def report(found: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """The claims, the identity, and a table for each topic, as far as their runs are there."""
    lines = judged(CLAIMS, found)
    if "Grad-CAM" in found:
        apart = found["Grad-CAM"]["apart"].max()
        lines += [
            "",
            "On a network that averages its last map, relu(CAM) divided by the number of cells is Grad-CAM: they differ by "
            f"{apart:.1e} of the largest, so " + ("it holds." if apart < 1e-4 else "it does not hold."),
        ]
    for topic, (names, metrics) in TABLES.items():
        rows = []
        for name in filter(found.__contains__, names):
            of = found[name]
            cells = [_cell(metric, of[metric]) if metric in of else "-" for metric in metrics]
            rows.append((name, *cells, f"{of['seconds'].mean():.0f}"))
        if rows:
            lines += ["", *table((topic, *metrics, "s"), rows)]
    return lines


def _cell(metric: str, values: np.ndarray) -> str:
    if metric == "parameters":
        return f"{values[0]:,.0f}"
    return ", ".join(f"{value:g}" for value in values) if metric == "rate" else mean_and_spread(values)


def head(seeds: int, share: float) -> list[str]:
    return [
        f"By `python benchmarks/weak_claims.py --seeds={seeds} --share={share:g}`: networks on one trunk learn from 4000 embedded",
        f"scenes of one object or one person in {int(STEPS * share)} steps of 32 images, and segmenters by",
        "`configs/weakly_supervised_scenes.py`; they are scored on 500 others. Where a rate is named, it is the learning rate that",
        "did best on a tenth of the training images. Means of the seeds and their standard deviations; a difference is taken seed",
        "by seed, and one within its spread is undecided.",
    ]


def main(arguments=None) -> None:
    command(
        __doc__, __file__, TITLE, list(ENTRIES), list(ENTRIES), QUICK, work, report, head, "runs/weak_claims", arguments
    )


if __name__ == "__main__":
    main()
