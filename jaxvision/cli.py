"""jaxvision evaluate | predict | explain | features | models: what one does with a trained run."""

import argparse
import os
import sys

from absl import logging

from jaxvision import architecture as architectures
from jaxvision import config as configs
from jaxvision.explain.methods import METHODS
from jaxvision.train.memory import keep_memory


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; errors that a user can mend are one line and exit status 1."""
    parser = argparse.ArgumentParser(prog="jaxvision", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("evaluate", help="score a run's best checkpoint")
    command.add_argument("--workdir", required=True, help="the directory of the run")
    command.add_argument("--split", default="validation", choices=("train", "validation", "test"))
    command.add_argument("--source", help="another source than the run's, e.g. coco:ANNOTATIONS.json:IMAGES")
    command.add_argument(
        "--out",
        help="folder for evaluation.json, predictions.json (detectors) and confusion.png (segmenters); default: none",
    )
    _add_views(command)
    command.set_defaults(run=_evaluate)

    command = commands.add_parser("predict", help="draw and list what a run's best checkpoint sees in image files")
    command.add_argument("--workdir", required=True, help="the directory of the run")
    command.add_argument("images", nargs="+", help="JPEG or PNG files")
    command.add_argument("--out", required=True, help="folder for the pictures and predictions.json")
    command.add_argument("--threshold", type=float, default=0.5, help="least score of a detection (default 0.5)")
    _add_views(command)
    command.set_defaults(run=_predict)

    command = commands.add_parser("explain", help="draw what in image files speaks for what a run predicts")
    command.add_argument("--workdir", required=True, help="the directory of the run")
    command.add_argument("images", nargs="+", help="JPEG or PNG files")
    command.add_argument("--out", required=True, help="folder for the pictures and explanations.json")
    command.add_argument("--method", default="gradcam", choices=METHODS)
    command.add_argument(
        "--layer", help='a named map, as "c5", or the path of a module (default: the last of c1, c2, ...)'
    )
    command.add_argument(
        "--target",
        action="append",
        default=[],
        help="CLASS, detection:N, region:CLASS, region:CLASS@X1,Y1,X2,Y2, region:CLASS@MASK.png, joint:J, joint:J@N, joint:J:x "
        "or joint:J:y; may be given several times (default: what is likeliest)",
    )
    command.add_argument(
        "--channels", type=_sides, metavar="CHANNEL,...", help="of the layer, for deconvnet and features"
    )
    command.set_defaults(run=_explain)

    command = commands.add_parser("features", help="write what a run's network holds at a layer for image files")
    command.add_argument("--workdir", required=True, help="the directory of the run")
    command.add_argument("images", nargs="+", help="JPEG or PNG files")
    command.add_argument("--layer", required=True, help='a named array, as "c4", or the path of a module')
    command.add_argument("--out", required=True, help="the .npz file for the arrays `features` and `files`")
    command.add_argument("--pool", action="store_true", help="the mean over height and width in place of a map")
    command.set_defaults(run=_features)

    command = commands.add_parser("models", help="list the architectures, and torchvision's models with their weights")
    command.set_defaults(run=_models)

    options = parser.parse_args(arguments)
    logging.set_verbosity(logging.ERROR)  # orbax tells of every file it touches
    keep_memory()
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def _add_views(command) -> None:
    group = command.add_argument_group("views of an image, whose results are joined; evaluate then gives no losses")
    group.add_argument("--flip", action="store_true", help="also mirrored")
    group.add_argument("--scales", type=_scales, default=(1.0,), metavar="SCALE,...", help="at these times its size")
    group.add_argument(
        "--tiles", type=_sides, metavar="HEIGHT,WIDTH", help="in overlapping windows of its own size (segmenters)"
    )
    group.add_argument("--overlap", type=float, help="share of a window's side that the next one sees (default 0.5)")


def _scales(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _sides(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _views(options, flip_pairs=()) -> dict:
    """What `Predictor` is to be given; nothing where each image is seen once and whole. flip_pairs: as `TTA` has them."""
    from jaxvision.tiles import Tiles
    from jaxvision.tta import TTA

    views = {}
    if options.flip or options.scales != (1.0,):
        views["tta"] = TTA(flip=options.flip, scales=options.scales, flip_pairs=flip_pairs)
    if options.tiles:
        views["tiles"] = Tiles(options.tiles, **({} if options.overlap is None else {"overlap": options.overlap}))
    elif options.overlap is not None:
        raise ValueError("--overlap is that of --tiles: give both.")
    return views


def _predictor(config, architecture, variables, own_size: bool, **options):
    """own_size: images are not fitted to the run's canvas, unless they are to fill it."""
    from jaxvision.predictor import Predictor

    canvases = configs.canvases(config, train=False)
    if config.data.stretch:
        options |= {"resize": {"stretch": canvases[0]}}
    elif not own_size:
        options |= {"canvas": canvases}
    if config.data.proposals:
        options |= {"proposals": config.data.proposals.to_dict()}
    return Predictor(architecture, variables, **options)


def _evaluate(options) -> None:
    import jax

    from jaxvision import tasks
    from jaxvision.data.images import write_image
    from jaxvision.runs import load_run
    from jaxvision.train import sharding
    from jaxvision.train.evaluate import evaluate, make_eval_step
    from jaxvision.train.logging import table, write_json
    from jaxvision.train.loop import check_classes, make_batches

    config, architecture, variables, class_names = load_run(options.workdir)
    if options.source:
        config.data.source, config.data[options.split], config.data.dir = options.source, "", ""
    if options.split == "test" and not config.data.test and not options.source:
        config.data.test = "test"
    task = tasks.get(architecture.task)
    batches = make_batches(config, options.split, task, train=False)
    check_classes(options.source or options.split, task.class_names(batches.source), options.workdir, class_names)
    views = _views(options, batches.source.flip_pairs)
    if views:
        own_size = "tiles" in views
        predictor = _predictor(config, architecture, variables, own_size, batch_size=batches.batch_size, **views)
        scores, evaluator = _evaluate_views(predictor, batches.source)
    else:
        mesh = sharding.make_mesh()
        variables = jax.device_put(variables, sharding.replicated(mesh))
        scores, evaluator = evaluate(make_eval_step(architecture), variables, architecture, batches, mesh)
    print(table({options.split: scores}))
    if hasattr(evaluator, "report"):
        print(f"\n{evaluator.report()}")
    if options.out:
        os.makedirs(options.out, exist_ok=True)
        if hasattr(evaluator, "results"):
            write_json(os.path.join(options.out, "predictions.json"), evaluator.results())
        if hasattr(evaluator, "pictures"):
            for name, picture in evaluator.pictures().items():
                write_image(os.path.join(options.out, f"{name}.png"), picture)
        write_json(os.path.join(options.out, "evaluation.json"), {options.split: scores})


def _evaluate_views(predictor, source):
    """(scores, evaluator) of a source's images as a predictor sees them."""
    from jaxvision.data import validation
    from jaxvision.data.sources import label_names

    evaluator, labels = predictor.task.evaluator(source), len(label_names(source))
    for start in range(0, len(source), predictor.batch_size):
        rows = range(start, min(start + predictor.batch_size, len(source)))
        examples = [validation.validate(source[i], len(source.class_names), num_labels=labels) for i in rows]
        for example, result in zip(examples, predictor([example["image"] for example in examples])):
            evaluator.update(example["image_id"], result)
    return evaluator.compute(), evaluator


def _predict(options) -> None:
    from jaxvision import tasks
    from jaxvision.data.images import read_image, write_image
    from jaxvision.runs import load_run
    from jaxvision.train.logging import write_json

    config, architecture, variables, class_names = load_run(options.workdir)
    task = tasks.get(architecture.task)
    own_size = task.name == "segmentation"
    predictor = _predictor(config, architecture, variables, own_size, threshold=options.threshold, **_views(options))
    os.makedirs(options.out, exist_ok=True)
    records = []
    for index, (path, picture) in enumerate(zip(options.images, _pictures(options))):
        image = read_image(path)
        [result] = predictor([path])  # which errors name
        write_image(picture, task.draw(image, result, class_names, options.threshold))
        rows = task.records(path, result, class_names)
        records += [{"image_id": index, **row} for row in rows]
        print(f"{path} -> {picture}: {_summary(rows)}")
    write_json(os.path.join(options.out, "predictions.json"), records)


def _pictures(options, suffix: str = "") -> list[str]:
    """A file in `out` for each image, of the image's name; no two are the same."""
    names = []
    for path in options.images:
        name = os.path.splitext(os.path.basename(path))[0]
        while name in names:
            name += "_"
        names.append(name)
    return [os.path.join(options.out, f"{name}{suffix}.png") for name in names]


def _explain(options) -> None:
    from jaxvision.explain.command import explain
    from jaxvision.runs import load_run
    from jaxvision.train.logging import write_json

    config, architecture, variables, class_names = load_run(options.workdir)
    predictor = _predictor(config, architecture, variables, own_size=False)
    os.makedirs(options.out, exist_ok=True)
    paths = dict(zip(options.images, _pictures(options, f"_{options.method}")))
    records = explain(
        predictor, class_names, paths, options.method, options.layer, options.target, list(options.channels or ())
    )
    write_json(os.path.join(options.out, "explanations.json"), records)
    for path, picture in paths.items():
        own = [row for row in records if row["file_name"] == path]
        said = ", ".join(
            f"{row['target']} {row['score']:.2f}" if "target" in row else str(row["channel"]) for row in own
        )
        print(f"{path} -> {picture}: {said}")


def _features(options) -> None:
    from jaxvision.explain.command import save_features
    from jaxvision.runs import load_run

    config, architecture, variables, _ = load_run(options.workdir)
    predictor = _predictor(config, architecture, variables, own_size=False, batch_size=min(8, len(options.images)))
    shape = save_features(predictor, options.images, options.layer, options.out, options.pool)
    print(f"{options.layer} of {len(options.images)} images -> {options.out}: {' x '.join(map(str, shape))}")


def _summary(rows: list[dict]) -> str:
    if rows and "share_of_pixels" in rows[0]:
        return ", ".join(f"{name} {share:.0%}" for name, share in rows[0]["share_of_pixels"].items())
    names = (row["class_name"] + (f" {row['score']:.2f}" if "score" in row else "") for row in rows)
    return ", ".join(names) or "nothing above the threshold"


def _models(_) -> None:
    from jaxvision.interop.cards import CARDS

    for name in architectures.names():
        print(name)
    rows = [("torchvision's model", "card", "parameters", "published, in percent", "file")]
    for name, cards in CARDS.items():
        for card, facts in cards.items():
            metrics = ", ".join(f"{metric} {value:g}" for metric, value in facts.metrics.items()) or "-"
            rows.append((name, card, f"{facts.parameters:,}", metrics, f"{facts.file}.pth"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    print()
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip())
