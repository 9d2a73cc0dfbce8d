"""What the literature says of segmenters, tried on the embedded scenes: same trunk, same budget, several seeds.

python benchmarks/segmentation_claims.py [--quick] [--seeds=3] [--steps=2000] [--runs=FOLDER] [--only=PATTERN]

Trains each variant with each seed in a folder of its own, where a run that is there is not done again, scores it on the
validation split, and writes docs/claims.md. --quick is one seed and few steps, to see that the command works, and prints only.
A claim whose difference is within the spread of its seeds is undecided; one that does not hold is said not to.
"""

import argparse
import dataclasses
import pathlib
import re
import runpy
import time

import jax
import numpy as np
from claims import judged, keep, mean_and_spread, place, run_all, table, values, write_part

from jaxvision import config as configs

ROOT = pathlib.Path(__file__).parents[1]
NEAR = "trimap_iu@3"
METRICS = ("mean_iu", "trimap_iu@1", NEAR, "trimap_iu@5")
QUICK = dict(seeds=1, steps=120)
IMAGES = 40  # of the training split, by which the CRF's settings are chosen

VGG = dict(depths=(2, 2, 2, 2, 2), widths=(16, 32, 64, 96, 128), norm="batch")
FCN = dict(**VGG, fc=256, fc6_kernel=3, fc6_pad=1, input_pad=1, dropout=0.1)
DILATED = dict(**VGG, name="dilated", fc=256, fc6_kernel=3, dropout=0.1, padding="same")
RESNET = dict(backbone="resnet50", depths=(2, 2, 3, 2), widths=(16, 24, 32, 48), stem="stride", stem_width=16)
DEEPLAB = dict(**RESNET, features=48, dropout=0.1)
PLUS = dict(**DEEPLAB, name="deeplabv3plus", low_features=16, separable=False, align_corners=False)


@dataclasses.dataclass(frozen=True)
class Variant:
    """architecture: its options. after: the variant whose parameters it goes on from. share: of the steps."""

    architecture: dict
    after: str = ""
    share: float = 1.0


VARIANTS = {
    "FCN-32s": Variant(dict(name="fcn32s", **FCN)),
    "FCN-16s": Variant(dict(name="fcn16s", **FCN)),
    "FCN-8s": Variant(dict(name="fcn8s", **FCN)),
    "DeconvNet": Variant(dict(name="deconvnet", **VGG, fc=256, fc6_kernel=2, start=None)),
    "front end": Variant(dict(**DILATED, context="none")),
    "front end, longer": Variant(dict(**DILATED, context="none"), "front end", 0.5),
    "context, identity": Variant(dict(**DILATED, context="basic"), "front end", 0.5),
    "context, random": Variant(dict(**DILATED, context="basic", context_init="random"), "front end", 0.5),
    "DeepLabv3, stride 16": Variant(dict(name="deeplabv3", **DEEPLAB, output_stride=16, rates=(1, 2, 3))),
    "DeepLabv3, stride 8": Variant(dict(name="deeplabv3", **DEEPLAB, output_stride=8, rates=(2, 4, 6))),
    "DeepLabv3+, stride 16": Variant(dict(**PLUS, output_stride=16, rates=(1, 2, 3))),
}
CRF = "FCN-8s with CRF"
CLAIMS = (
    ("finer strides of FCN score more", "FCN-8s", "FCN-16s", "mean_iu"),
    ("finer strides of FCN score more", "FCN-16s", "FCN-32s", "mean_iu"),
    ("and near borders", "FCN-8s", "FCN-16s", NEAR),
    ("and near borders", "FCN-16s", "FCN-32s", NEAR),
    ("switches and deconvolutions recover detail", "DeconvNet", "FCN-8s", NEAR),
    ("a context module improves its front end", "context, identity", "front end, longer", "mean_iu"),
    ("it must begin as the identity", "context, identity", "context, random", "mean_iu"),
    ("a decoder sharpens DeepLabv3", "DeepLabv3+, stride 16", "DeepLabv3, stride 16", NEAR),
    ("output stride 8 over 16", "DeepLabv3, stride 8", "DeepLabv3, stride 16", NEAR),
    ("a dense CRF sharpens FCN-8s", CRF, "FCN-8s", NEAR),
)


def recipe(name: str, seed: int, steps: int, runs: pathlib.Path):
    """The config of a variant: all but the architecture, and where it goes on from, is that of configs/fcn8s_scenes.py."""
    variant = VARIANTS[name]
    config = runpy.run_path(str(ROOT / "configs" / "fcn8s_scenes.py"))["get_config"]()
    config.seed, config.batch_size = seed, 8
    config.steps = max(2, int(steps * variant.share))
    config.optimizer.warmup = min(100, config.steps // 2)
    config.evaluate.every = config.checkpoint.every = config.steps
    config.data.test = ""
    config.architecture = dict(variant.architecture)
    if variant.after:
        fresh = (("^context/", "fresh"),) if "context" in name else ()
        config.init = (*fresh, (".*", str(place(runs, variant.after, seed))))
    return config


def train(name: str, seed: int, steps: int, runs: pathlib.Path, changes=None) -> None:
    """Runs a variant to its end, and writes what it took."""
    from jaxvision.train.stages import run

    config, directory, began = recipe(name, seed, steps, runs), place(runs, name, seed), time.perf_counter()
    scores = run(configs.override(config, changes or {}), str(directory))["validation"]
    keep(runs, name, seed, {metric: scores[metric] for metric in METRICS} | {"seconds": time.perf_counter() - began})


def refine(seed: int, runs: pathlib.Path) -> None:
    """Scores of FCN-8s's run with a CRF behind it, whose settings did best near borders on some training images."""
    from jaxvision.data.sources import open_source
    from jaxvision.metrics.trimap import TrimapIU
    from jaxvision.ops.crf import Settings
    from jaxvision.ops.crf import refine as refined
    from jaxvision.predictor import Predictor
    from jaxvision.runs import load_run
    from jaxvision.tasks.segmentation import SegmentationEvaluator

    began, base = time.perf_counter(), place(runs, "FCN-8s", seed)
    config, architecture, variables, _ = load_run(str(base))
    predictor = Predictor(architecture, variables, canvas=tuple(config.data.canvas), batch_size=1)

    def seen(split, count=None):
        source = open_source(config.data.source, config.data[split], config.data.dir)
        examples = (source[i] for i in range(count or len(source)))
        return source, ((e, next(predictor.probabilities([e["image"]]))) for e in examples)

    source, chosen = seen("train", IMAGES)
    chosen, found = list(chosen), {}
    for weight in (2.0, 5.0):
        for rgb in (8.0, 20.0):
            settings = Settings(weight, 15.0, rgb, 1.0, 1.5, iterations=5)
            near = TrimapIU(len(source.class_names), (3,))
            for example, maps in chosen:
                near.update(refined(maps, example["image"], settings).argmax(-1), example["semantic"])
            found[near.compute()[NEAR]] = settings
    best = found[max(found)]
    source, examples = seen("validation")
    evaluator = SegmentationEvaluator(source)
    for example, maps in examples:
        evaluator.update(example["image_id"], {"semantic": refined(maps, example["image"], best).argmax(-1)})
    scores = evaluator.compute()
    keep(runs, CRF, seed, {metric: scores[metric] for metric in METRICS} | {"seconds": time.perf_counter() - began})
    (place(runs, CRF, seed) / "settings.txt").write_text(f"{best}\n")


def parameters(name: str) -> int:
    """Of a variant, from shapes alone."""
    from jaxvision import create
    from jaxvision.batch import blank

    options = dict(VARIANTS[name].architecture)
    architecture = create(options.pop("name"), num_classes=7, **options)
    shapes = jax.eval_shape(architecture.init, jax.random.key(0), blank(("semantic",), (128, 128)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def tables(found: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """The two tables, of claims and of variants, as far as their runs are there."""
    rows = []
    for name, of in found.items():
        size = f"{parameters(name):,}" if name in VARIANTS else "as FCN-8s"
        rows.append((name, size, *(mean_and_spread(of[metric]) for metric in METRICS), f"{of['seconds'].mean():.0f}"))
    return [*judged(CLAIMS, found), "", *table(("network", "parameters", *METRICS, "s"), rows)]


def window() -> str:
    """The last claim: a sliding window is a convolution."""
    rows = runpy.run_path(str(ROOT / "benchmarks" / "segmentation_ideas.py"))["measure"](64, 3)
    patches, convolution = list(rows.values())[:2]
    times = patches["seconds"] / convolution["seconds"]
    return (
        f"A sliding window of {patches['sees']} pixels over 64 x 64 pixels takes {patches['seconds'] * 1e3:.0f} ms, and the "
        f"same weights as a convolution {convolution['seconds'] * 1e3:.1f} ms, {times:.0f} times less. Their scores differ by "
        f"{patches['difference']:.1e} of the largest: "
        + ("it holds." if patches["difference"] < 1e-5 else "it does not hold.")
    )


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, few steps, nothing written to docs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000, help="of 8 images")
    parser.add_argument("--runs", default="runs/claims", help="folder that keeps the runs")
    parser.add_argument("--only", default="", help="only the variants that this pattern finds")
    parser.add_argument("--worker", nargs=2, metavar=("VARIANT", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    seeds, steps = (QUICK["seeds"], QUICK["steps"]) if options.quick else (options.seeds, options.steps)
    runs = pathlib.Path(options.runs).absolute() / ("quick" if options.quick else f"steps{steps}")
    if options.worker:
        name, seed = options.worker[0], int(options.worker[1])
        return refine(seed, runs) if name == CRF else train(name, seed, steps, runs)
    names = [name for name in (*VARIANTS, CRF) if re.search(options.only, name)]
    runs.mkdir(parents=True, exist_ok=True)
    own = [f"--steps={options.steps}", f"--runs={options.runs}", *(["--quick"] if options.quick else [])]
    run_all(__file__, own, runs, names, seeds)
    text = [*tables({name: values(runs, name, seeds) for name in names}), "", window()]
    print("\n".join(text))
    if not options.quick and not options.only:
        head = [
            f"By `python benchmarks/segmentation_claims.py --seeds={seeds} --steps={steps}`: every variant learns from 4000",
            f"embedded scenes in {steps} steps of 8 images (those that go on from another in half as many more) and is scored on",
            "500 others. Means of the seeds and their standard deviations; a difference is taken seed by seed.",
            "",
        ]
        write_part("Segmentation", [*head, *text])


if __name__ == "__main__":
    main()
