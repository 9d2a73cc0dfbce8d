"""How many objects proposals cover, against their number, and what they cost.

python benchmarks/proposals.py scenes/shapes [--split=validation] [--images=500] [--data_dir=DIR] [--out=FOLDER]
    [--method=NAME --set=SETTING=VALUE ...]

A row a method: the share of objects (crowds and difficult ones left out) that one of an image's first N boxes covers by an
IoU of 0.5 or 0.7, the mean over IoUs of 0.5 to 0.95 (average recall), how many boxes an image has, and seconds an image on one
core. By default the rows are those of the settings below; --method and --set give one of your own, as `data.proposals` has
them. --out: pictures of the first images, objects green where a box covers them, red where none does.
"""

import argparse
import ast
import os
import time

import cv2

from jaxvision.data import proposals
from jaxvision.data.images import write_image
from jaxvision.data.sources import open_source
from jaxvision.metrics.recall import ProposalRecall
from jaxvision.visualize.proposals import draw_proposals

SCENES = dict(base_k=150, inc_k=150, width=0, min_size=8)
ROWS = {
    "scenes": (
        dict(method="selective_search", strategy="single", **SCENES),
        dict(method="selective_search", strategy="fast", **SCENES),
        dict(method="selective_search", strategy="quality", **SCENES),
        dict(method="selective_search", strategy="fast", base_k=150, inc_k=150, width=256, min_size=16),
        dict(method="sliding_boxes"),
    ),
    "others": (
        dict(method="selective_search", strategy="fast"),
        dict(method="selective_search", strategy="quality"),
        dict(method="sliding_boxes"),
    ),
}
COUNTS = (10, 30, 100, 300, 1000)
PICTURES = 4


def measure(source, images, settings, folder=""):
    """(scores of `ProposalRecall`, seconds an image); pictures into the folder where one is given."""
    method, recall, seconds = proposals.build(settings), ProposalRecall(source.class_names, COUNTS), 0.0
    for i in range(images):
        example = source[i]
        began = time.perf_counter()
        found = method(example["image"])
        seconds += time.perf_counter() - began
        recall.update(example["image_id"], found, example)
        if folder and i < PICTURES:
            picture = draw_proposals(example["image"], found, example["boxes"])
            write_image(os.path.join(folder, f"{label(settings).replace(' ', '_')}_{example['image_id']}.png"), picture)
    return recall.compute(), seconds / images


def label(settings):
    return " ".join(
        str(value) if key in ("method", "strategy") else f"{key}={value}" for key, value in settings.items()
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--out", default="")
    parser.add_argument("--method")
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    source = open_source(options.source, options.split, options.data_dir)
    images = min(options.images, len(source))
    rows = ROWS["scenes" if options.source.startswith("scenes/") else "others"]
    if options.method:
        pairs = (pair.split("=", 1) for pair in options.set)
        rows = [dict(method=options.method) | {k: v if v.isalpha() else ast.literal_eval(v) for k, v in pairs}]
    if options.out:
        os.makedirs(options.out, exist_ok=True)
    print(f"{images} images of {source.name}, {options.split}\n")
    columns = [f"{share} {count}" for share in ("IoU 0.5,", "IoU 0.7,") for count in COUNTS]
    print("| method | " + " | ".join([*columns, f"average, {COUNTS[3]}", "boxes", "s"]) + " |")
    print("|---" * (len(columns) + 4) + "|")
    for settings in rows:
        scores, seconds = measure(source, images, settings, options.out)
        names = [f"recall{overlap}@{count}" for overlap in (50, 70) for count in COUNTS]
        values = [f"{scores[name]:.3f}" for name in [*names, f"AR@{COUNTS[3]}"]]
        print(
            f"| {label(settings)} | " + " | ".join([*values, f"{scores['proposals']:.0f}", f"{seconds:.2f}"]) + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
