"""The main job: a config and a directory in; checkpoints, metrics, pictures and scores out.

Everything that must survive a crash is in the directory: the same call goes on from the last checkpoint, and since batch t
and the randomness of step t depend on t alone, an interrupted run ends where an uninterrupted one does.
"""

import functools
import importlib.metadata
import os
import tempfile
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxvision import architecture as architectures
from jaxvision import batch as fields
from jaxvision import config as configs
from jaxvision import tasks
from jaxvision.data.images import write_image
from jaxvision.data.loader import Batches, load
from jaxvision.data.pseudo_labels import with_pseudo_labels
from jaxvision.data.sources import Source, open_source, rows_by_id
from jaxvision.data.weak import weaken
from jaxvision.train import sharding
from jaxvision.train.checkpoint import Checkpoints, score
from jaxvision.train.evaluate import evaluate, make_eval_step
from jaxvision.train.init import initialize
from jaxvision.train.logging import MetricsWriter, Progress, read_scores, say, table, write_json
from jaxvision.train.optimizer import make_optimizer
from jaxvision.train.signals import Interrupted, Signals
from jaxvision.train.state import TrainState
from jaxvision.train.step import train_step

PICTURES = 4  # validation images drawn at every evaluation


class NonFiniteError(FloatingPointError):
    """A loss or a gradient that is not a number."""


def fit(config, directory: str, origins: Mapping[str, str] | None = None) -> dict[str, dict[str, float]]:
    """Trains as config says, in directory, and returns {split: {metric: value}} of the best checkpoint.

    origins: the directories of earlier stages by name, which `config.init` may use.
    Raises ValueError for what cannot be meant, before any tracing; NonFiniteError; Interrupted after SIGTERM or SIGINT.
    """
    run = Run(config, directory, origins)
    with Signals() as signals:
        run.train(signals)
    return run.finish()


def build_architecture(config, source: Source) -> tuple[architectures.Architecture, tuple[str, ...]]:
    """(the architecture that config names, for the source's classes; their names)."""
    options = config.architecture.to_dict()
    name = options.pop("name")
    if config.precision != "float32":
        options["dtype"] = config.precision
    if config.remat:
        options["remat"] = True
    count = options.pop("num_classes", len(source.class_names))
    architecture = architectures.create(name, num_classes=count, **options)
    class_names = tasks.get(architecture.task).class_names(source)
    if "num_classes" not in config.architecture and count != len(class_names):  # a classifier has no background
        architecture = architectures.create(name, num_classes=len(class_names), **options)
    return architecture.with_weights(config.losses.to_dict()), class_names


def make_batches(config, split: str, task: tasks.Task, *, train: bool) -> Batches:
    """The batches of config's split: shuffled and transformed to train on, else in order and as they are."""
    source = open_source(config.data.source, config.data[split], config.data.dir)
    if config.data.proposals:
        from jaxvision.data.proposal_source import with_proposals

        settings, name = config.data.proposals.to_dict(), f"{config.data.source}:{config.data[split]}"
        source = with_proposals(source, settings, name, config.data.dir, config.data.workers)
    if split == "train":
        source = with_pseudo_labels(weaken(source, config.data.weak.to_dict()), config.data.pseudo_labels)
    return Batches(
        source,
        batch_size=config.batch_size if train else config.evaluate.batch_size or config.batch_size,
        fields=task.fields,
        canvases=configs.canvases(config, train),
        stretch=config.data.stretch,
        scales=config.data.scales if train else (1.0,),
        seed=config.seed if train else None,
        transforms_config=config.data.transforms.to_dict() if train else {},
        max_boxes=config.data.max_boxes,
        skip_bad=config.data.skip_bad,
        check=task.check,
        part=(jax.process_index(), jax.process_count()),
    )


def check_classes(found: str, names: Sequence[str], learnt: str, known: Sequence[str]) -> None:
    """Raises ValueError where the class names of what is found differ from those of what was learnt from."""
    if len(names) != len(known):
        raise ValueError(f"{found} has {len(names)} classes, {learnt} {len(known)}: name the same classes in both.")
    for number, (name, other) in enumerate(zip(names, known)):
        if name != other:
            raise ValueError(
                f"{found} has other classes than {learnt}: class {number} is {name!r}, not {other!r}. Name and order them alike."
            )


class Run:
    """One training: what it needs, restored to where its directory left off."""

    def __init__(self, config, directory: str, origins: Mapping[str, str] | None = None):
        configs.check(config)
        for size in (config.batch_size, config.evaluate.batch_size):
            sharding.check_batch_size(size)
        prepare_directory(directory)
        source = open_source(config.data.source, config.data.train, config.data.dir)
        self.architecture, self.class_names = build_architecture(config, source)
        self.task = tasks.get(self.architecture.task)
        metric = config.evaluate.metric or self.task.metric
        self.config = config = configs.override(config, {"evaluate": {"metric": metric}})
        self.directory, self.chief = directory, jax.process_index() == 0
        self.batches = make_batches(config, "train", self.task, train=True)
        self.validation = self._to_score("validation")
        self.mesh = sharding.make_mesh()

        blank = fields.blank(
            self.task.fields,
            self.batches.canvases[0],
            max_boxes=config.data.max_boxes,
            joints=len(source.keypoint_names),
        )
        variables = self.architecture.init(jax.random.key(config.seed), blank)
        if config.init:
            variables, report = initialize(variables, config.init, origins)
            say("init: " + ", ".join(f"{len(paths)} {kind}" for kind, paths in report.items()) + " (see init.json)")
            self._write_json("init.json", report)
        optimizer, self.schedule = make_optimizer(config.optimizer, config.steps, variables["params"])
        self.state = jax.device_put(TrainState.create(variables, optimizer), sharding.replicated(self.mesh))
        step = functools.partial(train_step, architecture=self.architecture, optimizer=optimizer, seed=config.seed)
        self.train_step = jax.jit(step, donate_argnums=0)
        self.eval_step = make_eval_step(self.architecture)

        folder = os.path.join(directory, "checkpoints")
        self.checkpoints = Checkpoints(folder, keep=config.checkpoint.keep, metric=metric)
        self.step = self.checkpoints.latest() or 0
        if self.step:
            self.state = self.checkpoints.restore(self.state, self.step)
        self.scores = read_scores(directory, self.step)
        self._write_json("config.json", config.to_dict())
        self._announce()

    def train(self, signals: Signals) -> None:
        """From the current step to the last, or until nothing gets better."""
        config = self.config
        self.writer = MetricsWriter(self.directory, self.step) if self.chief else None
        self.progress = Progress(self.step, config.steps)
        if self.step and self.step % config.evaluate.every == 0 and self.step not in self.scores:
            self._evaluate()  # the run was stopped before it could
            self.checkpoints.save(self.state, self._meta(), self.scores[self.step], again=True)
        counts = {f"data/{name}": 0 for name in ("overflow", "skipped", "lost_boxes", "lost_proposals")}
        stream = load(self.batches, self.step, config.steps, workers=config.data.workers)
        pending = None  # the last step's metrics: read while the next one runs
        for batch, host in sharding.prefetch(stream, self.mesh):
            self.state, metrics = self.train_step(self.state, batch)
            if pending:
                self._look(*pending)
            self.step += 1
            counts = {name: count + int(host[name.split("/")[1]].sum()) for name, count in counts.items()}
            pending = self.step, metrics, host["image_id"], counts
            last = self.step == config.steps
            stop = signals.caught(self.step)
            evaluation = not stop and (last or self.step % config.evaluate.every == 0)
            if stop or evaluation or self.step % config.checkpoint.every == 0:
                self._look(*pending)  # nothing that is not finite is ever saved
                pending = None
                if evaluation:
                    self._evaluate()
                self.checkpoints.save(self.state, self._meta(), self.scores.get(self.step))
            if stop:
                self.checkpoints.wait()
                say(f"{signals.name}: saved step {self.step} in {self.directory}; the same command goes on from there.")
                raise Interrupted(128 + signals.number)
            if evaluation and self._no_better():
                say(f"No better {config.evaluate.metric} in {config.evaluate.patience} evaluations: enough.")
                break
        self.progress.close()
        if self.writer:
            self.writer.close()
        if counts["data/overflow"]:
            say(
                f"{counts['data/overflow']} objects beyond data.max_boxes {config.data.max_boxes} were left out: raise it."
            )
        if counts["data/lost_boxes"]:
            say(f"{counts['data/lost_boxes']} objects of no width or height on the canvas were not learnt from.")
        if counts["data/lost_proposals"]:
            say(f"{counts['data/lost_proposals']} proposals of under a pixel on the canvas were left out.")
        if counts["data/skipped"]:
            say(f"{counts['data/skipped']} images could not be used and were passed over.")

    def finish(self) -> dict[str, dict[str, float]]:
        """Scores of the best checkpoint on validation, and test where there is one; written to evaluation.json."""
        self.checkpoints.wait()
        best = self.checkpoints.best()
        if best != self.step:
            self.state = self.checkpoints.restore(self.state, best)
        result = {"validation": self.scores.get(best) or self._scores(self.validation, f"step_{best:07d}")}
        if self.config.data.test:
            result["test"] = self._scores(self._to_score("test"), "test")
        self.checkpoints.close()
        self._write_json("evaluation.json", result)
        say(f"Scores of step {best}, in {self.directory}/evaluation.json:")
        say(table(result))
        return result

    def _to_score(self, split: str) -> Batches:
        """The batches of a split. Raises ValueError where it has not the classes that are learnt from."""
        batches = make_batches(self.config, split, self.task, train=False)
        check_classes(f"data.{split}", batches.source.class_names, "data.train", self.batches.source.class_names)
        return batches

    def _scores(self, batches, title: str, watch=None) -> dict[str, float]:
        """Scores of a source; the pictures that its task has of them go to pictures/TITLE_NAME.png."""
        variables = self.state.variables()
        scores, evaluator = evaluate(self.eval_step, variables, self.architecture, batches, self.mesh, watch)
        if self.chief and hasattr(evaluator, "pictures"):
            for name, picture in evaluator.pictures().items():
                write_image(os.path.join(self.directory, "pictures", f"{title}_{name}.png"), picture)
        return scores

    def _evaluate(self) -> None:
        self.progress.pause()
        drawn = {}

        def watch(image_id, result):
            if len(drawn) < PICTURES:
                drawn[int(image_id)] = result

        scores = self.scores[self.step] = self._scores(self.validation, f"step_{self.step:07d}", watch)
        if self.chief:
            self.writer.write(self.step, {f"validation/{name}": value for name, value in scores.items()})
            self._draw(drawn)
        metric = self.config.evaluate.metric
        if metric not in scores:
            raise ValueError(f"evaluate.metric {metric!r} is not among the scores: {', '.join(scores)}.")
        say(f"step {self.step}: validation {metric} {scores[metric]:.4f}, loss {scores['loss']:.4f}")
        self.progress.resume()

    def _draw(self, results: dict) -> None:
        """Ground truth beside prediction."""
        from jaxvision.visualize.layout import side_by_side

        source = self.validation.source
        rows = rows_by_id(source)
        for image_id, result in results.items():
            example = source[rows[image_id]]
            truth = self.task.truth(example)
            pair = truth, {**result, "truth": truth}
            pictures = [self.task.draw(example["image"], r, self.class_names, 0.5) for r in pair]
            path = os.path.join(self.directory, "pictures", f"step_{self.step:07d}_image_{image_id}.png")
            write_image(path, side_by_side(pictures, ("ground truth", "prediction")))

    def _look(self, step: int, metrics: dict, image_ids: np.ndarray, counts: dict[str, int]) -> None:
        """Reads a step's metrics: logs them, and stops at what is not finite."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not np.isfinite([values["loss"], values["norm/gradient"]]).all():
            wrong = [name for name, value in values.items() if name.startswith("loss/") and not np.isfinite(value)]
            self.checkpoints.wait()
            raise NonFiniteError(
                f"Step {step}: {', '.join(wrong) or 'norm/gradient'} is not finite; image ids {image_ids.tolist()}. "
                f"That step changed no parameter; the last good checkpoint is step {self.checkpoints.latest()} in "
                f"{self.checkpoints.directory}. Look at those images, lower the learning rate, or set optimizer.clip."
            )
        self.progress.update(step, values["loss"], self.config.batch_size)
        if self.writer and (step % self.config.log_every == 0 or step == 1):
            rate = float(self.schedule(step - 1))
            seen = {name: count for name, count in counts.items() if count}
            self.writer.write(step, {**values, "learning_rate": rate, **seen})

    def _no_better(self) -> bool:
        """Whether the best score lies `patience` evaluations back."""
        patience, metric = self.config.evaluate.patience, self.config.evaluate.metric
        ranks = [score(scores, metric) for scores in self.scores.values()]
        return bool(patience) and len(ranks) - 1 - int(np.argmax(ranks)) >= patience

    def _meta(self) -> dict:
        version = importlib.metadata.version("jaxvision")
        return {"config": self.config.to_dict(), "class_names": list(self.class_names), "version": version}

    def _announce(self) -> None:
        config, source = self.config, self.batches.source
        count = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        kinds = ", ".join(sorted({device.device_kind for device in jax.devices()}))
        say(
            f"{config.architecture.name}: {count:,} parameters, {config.precision}\n"
            f"devices: {jax.device_count()} ({kinds}), {jax.process_count()} process(es)\n"
            f"data: {len(source)} images of {source.name} for training, {len(self.validation.source)} for validation; "
            f"canvas {' '.join(f'{h}x{w}' for h, w in self.batches.canvases)}\n"
            f"steps: {config.steps} of {config.batch_size} images, {config.steps / self.batches.per_epoch:.1f} epochs"
            + (f"; going on from step {self.step}" if self.step else "")
        )

    def _write_json(self, name: str, value) -> None:
        if self.chief:
            write_json(os.path.join(self.directory, name), value)


def prepare_directory(directory: str) -> None:
    """Makes the directory and its folders. Raises PermissionError that says what to do where it cannot be written."""
    try:
        for folder in ("checkpoints", "pictures"):
            os.makedirs(os.path.join(directory, folder), exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):  # a name of its own: several hosts may try at once
            pass
    except OSError as error:
        raise PermissionError(
            f"The workdir {directory!r} cannot be written ({error.strerror}): take another."
        ) from error
