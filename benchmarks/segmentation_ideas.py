"""Three ways to a class for every pixel, side by side: work, time, and what a score sees.

python benchmarks/segmentation_ideas.py [--side=64] [--repeats=5]

A sliding window that classifies each pixel's patch; the same weights as one convolution over the image, whose scores are equal;
a network that never leaves the full resolution; and one that goes down and up again. All four are narrow, with random
weights, on one image; each row is a network of its own but the first two, which share theirs.
"""

import argparse
import functools
import time

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params

from jaxvision import create
from jaxvision.explain.receptive_field import receptive_field
from jaxvision.train.memory import keep_memory

CLASSES = 7
WINDOW = dict(widths=(16, 32, 48), fc=128)
NETWORKS = {
    "sliding window, patch by patch": ("sliding_window", {**WINDOW, "view": "patches"}),
    "sliding window, as a convolution": ("sliding_window", {**WINDOW, "view": "convolution"}),
    "full resolution": ("full_resolution", dict(widths=(32,) * 9, norm="none")),
    "down and up (FCN-8s)": (
        "fcn8s",
        dict(depths=(1,) * 5, widths=(16, 32, 48, 64, 64), fc=128, input_pad=1, fc6_kernel=3, fc6_pad=1),
    ),
}


def measure(side: int, repeats: int) -> dict[str, dict[str, float]]:
    """{network: {"parameters", "gflop" of a forward pass, "seconds" (median), "sees" (pixels)}}, and "difference", of the
    first two's scores, relative to the largest."""
    image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3)).astype(np.uint8)
    batch = {"image": image, "image_size": np.array([[side, side]], np.int32)}
    rows, scores = {}, []
    for title, (name, options) in NETWORKS.items():
        architecture = create(name, num_classes=CLASSES, **options)
        variables = {"params": architecture.init(jax.random.key(0), batch)["params"]}
        forward = jax.jit(architecture.model.apply).lower(variables, batch).compile()
        scores.append(np.array(forward(variables, batch)["logits"]))
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            jax.block_until_ready(forward(variables, batch))
            seconds.append(time.perf_counter() - began)
        rows[title] = {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables)),
            "gflop": products(architecture, variables, batch) / 1e9,
            "seconds": float(np.median(seconds)),
            "sees": receptive_field(create(name, num_classes=CLASSES, **{**options, **_whole(name)}), "logits")[0],
        }
    assert np.std(scores[1]) > 0
    rows["sliding window, patch by patch"]["difference"] = float(
        np.abs(scores[0] - scores[1]).max() / np.abs(scores[1]).max()
    )
    return rows


def _whole(name: str) -> dict:
    """What makes the gradient of a score reach the whole of its field, through one pass over the image."""
    return {"view": "convolution"} if name == "sliding_window" else {}


def products(architecture, variables, batch) -> float:
    """Multiplications and additions of a forward pass in convolutions and matrix products, in loops as often as they run."""
    jaxpr = jax.make_jaxpr(functools.partial(architecture.model.apply, train=False))(variables, batch)
    return count(jaxpr.jaxpr)


def count(jaxpr) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * np.prod([shape[i] for i in contracted])
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * equation.outvars[0].aval.size * np.prod(kernel) / outputs
        else:
            times = equation.params.get("length", 1)
            for inner in jaxprs_in_params(equation.params):
                total += times * count(inner)
    return float(total)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    keep_memory()
    rows = measure(options.side, options.repeats)
    first = rows["sliding window, patch by patch"]
    print(f"{options.side} x {options.side} pixels, {jax.default_backend()}")
    print(f"{'':<34}{'parameters':>11}{'GFLOP':>9}{'work':>8}{'ms':>9}{'time':>8}{'sees':>6}")
    for title, row in rows.items():
        work, spent = (row[name] / first[name] for name in ("gflop", "seconds"))
        print(
            f"{title:<34}{row['parameters']:>11,}{row['gflop']:>9.3f}{work:>8.4f}{row['seconds'] * 1e3:>9.1f}"
            f"{spent:>8.4f}{row['sees']:>6}"
        )
    print(f"patch by patch and as a convolution the scores differ by {first['difference']:.1e} of the largest")


if __name__ == "__main__":
    main()
