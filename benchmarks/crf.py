"""The dense CRF: seconds and peak memory, and how often the fast method gives the exact one's labels.

python benchmarks/crf.py [--repeats=3] [--scenes=4] [--data_dir=DIR] [--quick]

A photograph (scikit-learn's china.jpg) at 500 x 500 with 21 classes and a scene at 128 x 128 with 7, ten iterations, each
in a process of its own: the best of `--repeats` runs, after one that compiles. Agreement is that of labels on whole scenes
whose probabilities are a blurred truth with coarse noise, half of them wrong; the band holds pixels within three of a
border in the truth. --quick: small pictures, one preset, once, to see that it runs.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import cv2
import jax
import numpy as np
import sklearn

from jaxvision.data import scenes
from jaxvision.data.sources import open_source
from jaxvision.metrics.trimap import border_distance
from jaxvision.ops.crf import PRESETS, refine

AGREE = ("pydensecrf", "deconvnet", "crf_rnn", "deeplab_vgg", "deeplab_resnet101")
TIMED = ("pydensecrf", "deeplab_vgg", "deconvnet")
BAND = 3  # pixels


def photograph(side):
    path = os.path.join(os.path.dirname(sklearn.__file__), "datasets", "images", "china.jpg")
    return cv2.resize(cv2.imread(path), (side, side), interpolation=cv2.INTER_AREA)[..., ::-1].copy()


def noisy(truth, classes, seed):
    """Probabilities that a weak network could give."""
    noise = np.random.RandomState(seed).normal(size=(*truth.shape, classes))
    noise = np.stack([cv2.GaussianBlur(channel, (0, 0), 2.5) for channel in np.moveaxis(noise, -1, 0)], -1)
    blurred = np.stack([cv2.GaussianBlur((truth == k) * 1.0, (0, 0), 3) for k in range(classes)], -1)
    weights = np.exp(2 * blurred + 1.5 * noise / noise.std())
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def agreement(preset, examples):
    """(shares of equal labels on all pixels and in the band, accuracies of the input, exact, fast)."""
    same, band, right = [], [], []
    for seed, example in enumerate(examples):
        truth = example["semantic"]
        probabilities = noisy(truth, 7, seed)
        labels = [refine(probabilities, example["image"], PRESETS[preset], m).argmax(-1) for m in ("exact", "fast")]
        same.append(labels[0] == labels[1])
        band.append(same[-1][border_distance(truth) < BAND])
        right.append([(map_ == truth).mean() for map_ in (probabilities.argmax(-1), *labels)])
    shares = [each.mean() for each in same]
    return np.mean(shares), min(shares), np.concatenate(band).mean(), *np.mean(right, 0)


def worker(method, preset, side, classes, repeats):
    """Prints a line of JSON: seconds of each run, the first of which compiles, and the process's memory in bytes."""
    image = photograph(side)
    truth = (np.add.outer(np.arange(side), np.arange(side)) // (side // 4)) % classes
    probabilities = noisy(truth, classes, 0)
    jax.block_until_ready(jax.numpy.zeros(1))
    before, seconds = _peak(), []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        refine(probabilities, image, PRESETS[preset], method)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds, "before": before, "peak": _peak()}))


def _peak():
    """The most memory that this process has had, in bytes; getrusage would tell that of the process which started it."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def measured(*arguments):
    command = [sys.executable, os.path.abspath(__file__), "--worker", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--data_dir")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        method, preset, *numbers = options.worker
        return worker(method, preset, *map(int, numbers))
    rows = [("fast", preset, 500, 21) for preset in TIMED] + [(m, "pydensecrf", 128, 7) for m in ("fast", "exact")]
    if options.quick:
        rows = [("fast", "pydensecrf", 40, 7), ("exact", "pydensecrf", 40, 7)]
    print(
        "| method | preset | size | s | first run, s | peak memory, MiB | of it before, MiB |\n|---|---|---|---|---|---|---|"
    )
    for method, preset, side, classes in rows:
        found = measured(method, preset, side, classes, 1 if options.quick else options.repeats)
        first, *others = found["seconds"]
        memory = " | ".join(f"{found[key] / 2**20:.0f}" for key in ("peak", "before"))
        print(
            f"| {method} | {preset} | {side} x {side} x {classes} | {min(others):.2f} | {first:.2f} | {memory} |",
            flush=True,
        )
    scenes.prepare("shapes", options.data_dir)
    source = open_source("scenes/shapes", "validation", options.data_dir or "")
    examples = [source[i] for i in range(1 if options.quick else options.scenes)]
    if options.quick:
        examples = [{name: e[name][48:88, 48:88] for name in ("image", "semantic")} for e in examples]
    print(
        "\n| preset | same labels | of the worst scene | in the band | right before | exact | fast |\n|---|---|---|---|---|---|---|"
    )
    for preset in AGREE[: 1 if options.quick else None]:
        print(f"| {preset} | " + " | ".join(f"{value:.2%}" for value in agreement(preset, examples)) + " |", flush=True)


if __name__ == "__main__":
    main()
