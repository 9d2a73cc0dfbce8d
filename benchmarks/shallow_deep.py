"""Shallow against deep: features by hand and a linear SVM, a flattened fully connected network, and a convolutional one.

python benchmarks/shallow_deep.py [--quick] [--seed=0] [--data_dir=DIR]

All three say which object a picture of scenes/single shows, and learn from the same pictures. HOG (Dalal & Triggs, CVPR 2005;
OpenCV's, on grey values) goes to a linear SVM. The two networks learn by the same steps on the same batches: one has the pixels
as one long row, the other is that of configs/resnet_scenes.py. The SVM's C and a network's learning rate are chosen on the
validation pictures. A row says what each gets right of the pictures that it has learnt from, at most 1000 of them, and of the
test pictures; the difference; its parameters; and the time of its training, with features, compilation and that choice, and of
a test picture.
--quick: few pictures and steps, to see that the command works.
"""

import argparse
import functools
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence

import cv2
import jax
import numpy as np
import optax
from claims import table
from flax import linen as nn
from sklearn.svm import LinearSVC

from jaxvision import create
from jaxvision.architecture import Architecture
from jaxvision.batch import split_host
from jaxvision.data.loader import Batches, load
from jaxvision.data.sources import label_names, open_source
from jaxvision.layers.conv import he_normal
from jaxvision.models.backbones.classification import classifier, network_input
from jaxvision.train.memory import keep_memory
from jaxvision.train.state import TrainState
from jaxvision.train.step import train_step

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # recipes lie there

from configs import resnet_scenes

SIDE, BATCH, CELL = 128, 32, 8
FULL = dict(train="train", validation="validation", test="test", steps=1500, seen=1000)
QUICK = dict(train="train[:64]", validation="validation[:16]", test="test[:32]", steps=6, seen=32)
COLUMNS = ("", "train", "test", "difference", "parameters", "seconds to train", "ms a picture")
STRENGTHS = (0.001, 0.01, 0.1)  # the SVM's C
RATES = (3e-5, 3e-4, 3e-3)  # a row of 49,152 pixels wants a far smaller one than a convolution


class Flattened(nn.Module):
    """`logits` (B, num_classes) of the picture's pixels as one row, by dense layers of those widths."""

    num_classes: int
    widths: Sequence[int] = (256, 256)
    dropout: float = 0.5

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x = network_input(batch)
        x = x.reshape(len(x), -1)
        for i, width in enumerate(self.widths, 1):
            x = nn.relu(nn.Dense(width, kernel_init=he_normal, name=f"fc{i}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return {"logits": nn.Dense(self.num_classes, name="head")(x)}


def hog(side: int = SIDE) -> cv2.HOGDescriptor:
    """Nine orientations in cells of 8 pixels, normalised in blocks of 2 x 2 cells that overlap by one."""
    block, cell = (2 * CELL, 2 * CELL), (CELL, CELL)
    return cv2.HOGDescriptor((side, side), block, cell, cell, 9)


def examples(source, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first pictures (n, H, W, 3) and labels (n,) of a source; all without a count."""
    rows = [source[i] for i in range(min(count or len(source), len(source)))]
    return np.stack([row["image"] for row in rows]), np.array([row["label"] for row in rows])


def shallow(sources, settings, seed: int) -> dict[str, float]:
    """HOG and a linear SVM."""
    descriptor = hog()

    def features(images):
        return np.stack([descriptor.compute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).ravel() for image in images])

    began = time.perf_counter()
    images, labels = examples(sources["train"])
    x = features(images)
    held, held_labels = examples(sources["validation"])
    held = features(held)
    svms = [LinearSVC(C=strength, random_state=seed).fit(x, labels) for strength in STRENGTHS]
    best = max(svms, key=lambda svm: svm.score(held, held_labels))
    seconds = time.perf_counter() - began
    train = best.score(x[: settings["seen"]], labels[: settings["seen"]])
    images, labels = examples(sources["test"])
    began = time.perf_counter()
    right = best.predict(features(images)) == labels
    each = (time.perf_counter() - began) / len(labels)
    return row(train, right.mean(), best.coef_.size + best.intercept_.size, seconds, each)


def deep(architecture: Architecture, sources, settings, seed: int, rate: float) -> tuple[float, dict[str, float]]:
    """(the share of the validation pictures that is right, the row) of a network that learns by the library's step."""
    began = time.perf_counter()
    options = dict(batch_size=BATCH, fields=("label",), canvases=[(SIDE, SIDE)])
    batches = Batches(sources["train"], seed=seed, transforms_config={"flip": {}}, **options)
    steps = settings["steps"]
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, min(100, steps // 2), steps)
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.adamw(schedule, weight_decay=0.02))
    variables = architecture.init(jax.random.key(seed), split_host(batches[0])[0])
    state = TrainState.create(variables, optimizer)
    step = functools.partial(train_step, architecture=architecture, optimizer=optimizer, seed=seed)
    step = jax.jit(step, donate_argnums=0)
    for batch in load(batches, stop=steps):
        state, metrics = step(state, split_host(batch)[0])
    if not np.isfinite(metrics["loss"]):
        raise FloatingPointError(f"the loss of {architecture.name} is {metrics['loss']}")
    seconds = time.perf_counter() - began
    variables = state.variables()
    forward = jax.jit(lambda v, batch: architecture.model.apply(v, batch)["logits"].argmax(-1))
    jax.block_until_ready(forward(variables, split_host(batches[0])[0]))  # compiled

    def score(source, count=None):
        images, labels = examples(source, count)
        size = np.full((len(images), 2), SIDE, np.int32)
        began, found = time.perf_counter(), []
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            room = [(0, BATCH - len(images[part])), (0, 0), (0, 0), (0, 0)]
            batch = {"image": np.pad(images[part], room), "image_size": np.resize(size, (BATCH, 2))}
            found.append(np.array(forward(variables, batch)))
        each = (time.perf_counter() - began) / len(images)
        return np.mean(np.concatenate(found)[: len(labels)] == labels), each

    train, _ = score(sources["train"], settings["seen"])
    test, each = score(sources["test"])
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return score(sources["validation"])[0], row(train, test, parameters, seconds, each)


def row(train, test, parameters, seconds, each) -> dict[str, float]:
    return dict(train=float(train), test=float(test), parameters=int(parameters), seconds=seconds, each=each)


def measure(settings: dict, seed: int = 0, data_dir: str = "") -> dict[str, dict[str, float]]:
    """{name: {"train", "test" (shares that are right), "parameters", "seconds" (to train), "each" (of a test picture)}}."""
    sources = {
        split: open_source("scenes/single", settings[split], data_dir) for split in ("train", "validation", "test")
    }
    classes = len(label_names(sources["train"]))
    options = resnet_scenes.get_config().architecture.to_dict()
    networks = {
        "flattened, fully connected": classifier("flattened", Flattened(classes)),
        "convolutional (ResNet)": create(options.pop("name"), num_classes=classes, **options),
    }
    rows = {"HOG + linear SVM": shallow(sources, settings, seed)}
    for name, network in networks.items():
        found = [deep(network, sources, settings, seed, rate) for rate in RATES]
        _, best = max(found, key=lambda one: one[0])
        rows[name] = {**best, "seconds": sum(one["seconds"] for _, one in found)}
    return rows


def lines(rows: dict[str, dict[str, float]]) -> list[str]:
    cells = [
        (
            name,
            f"{r['train']:.4f}",
            f"{r['test']:.4f}",
            f"{r['train'] - r['test']:+.4f}",
            f"{r['parameters']:,}",
            f"{r['seconds']:.0f}",
            f"{1e3 * r['each']:.1f}",
        )
        for name, r in rows.items()
    ]
    return table(COLUMNS, cells)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data_dir", default="")
    options = parser.parse_args(arguments)
    keep_memory()
    settings = QUICK if options.quick else FULL
    print(
        f"scenes/single, {settings['train']}, {settings['steps']} steps of {BATCH}, {jax.default_backend()}", flush=True
    )
    print("\n".join(lines(measure(settings, options.seed, options.data_dir))))


if __name__ == "__main__":
    main()
