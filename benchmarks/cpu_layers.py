"""How much quicker this library's way of writing a layer is than the obvious one; made for CPUs.

python benchmarks/cpu_layers.py [--repeats=15]

Forward and backward together, at the quickstart's sizes and at ImageNet's. The two ways alternate within one run, so
that a busy machine slows down both; the ratio is that of the medians.
"""

import argparse
import functools
import pathlib
import runpy
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from jaxvision.layers.conv import Conv
from jaxvision.models.backbones.resnet import ResNet
from jaxvision.ops.pool import max_pool
from jaxvision.ops.roi import pyramid_roi_align

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "quickstart.py"

# (name, this library's function, the obvious one, arguments): each differentiated in its arguments.
Comparison = tuple[str, Callable, Callable, tuple]


def flax_max_pool(x, window, stride, padding):
    return nn.max_pool(x, (window, window), (stride, stride), [(padding, padding)] * 2)


def lax_conv(x, kernel, groups=1):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=groups)


def library_conv(x, kernel, groups=1):
    layer = Conv(kernel.shape[-1], len(kernel), groups=groups, bias=False)
    return layer.apply({"params": {"kernel": kernel}}, x)


def roi_align(features, rois, size, stride, impl, sampling_ratio=2):
    """RoIAlign of (B,R,4) rois on (B,H,W,C) features."""

    def one(feature, rois):
        levels = jnp.zeros(len(rois), jnp.int32)
        return pyramid_roi_align([feature], rois, levels, size, [1 / stride], sampling_ratio, impl=impl)

    return jax.vmap(one)(features, rois)


def stem(kind, stem_width, widths):
    """(function of variables, its variables) of a ResNet's stem alone: images to stride 4."""
    module = ResNet(depths=(0,), widths=widths[:1], block="basic", stem=kind, stem_width=stem_width)
    return lambda variables, x: module.apply(variables, x, train=True, mutable=["batch_stats"])[0]["c2"], module


def comparisons() -> Iterator[Comparison]:
    """Everything that is measured."""
    rng = np.random.default_rng(0)
    config = runpy.run_path(str(CONFIG))["get_config"]()
    options, images, (height, width) = config.architecture, config.batch_size, config.data.canvas

    def normal(*shape):
        return jnp.array(rng.normal(size=shape), jnp.float32)

    for window, padding, shape in ((2, 0, (8, 64, 64, 64)), (3, 1, (8, 112, 112, 64))):
        ours = functools.partial(max_pool, window=window, stride=2, padding=padding)
        theirs = functools.partial(flax_max_pool, window=window, stride=2, padding=padding)
        yield f"max-pool {window}x{window} stride 2, {shape}", ours, theirs, (normal(*shape),)
    for shape, features in (((8, 14, 14, 1024), 256), ((8, 56, 56, 64), 256), ((8, 32, 32, 64), 64)):
        arguments = normal(*shape), normal(1, 1, shape[-1], features)
        yield f"1x1 convolution, {shape} to {features}", library_conv, lax_conv, arguments

    for shape, side in (((8, 56, 56, 72), 3), ((8, 28, 28, 120), 5)):
        ours, theirs = (functools.partial(conv, groups=shape[-1]) for conv in (library_conv, lax_conv))
        arguments = normal(*shape), normal(side, side, 1, shape[-1])
        yield f"depthwise {side}x{side} convolution, {shape}", ours, theirs, arguments

    maps = normal(images, height // 4, width // 4, options.fpn)
    for size, count, ratio in (
        (7, options.samples, options.sampling_ratio),
        (14, options.max_positives, options.mask_sampling_ratio),
    ):
        corner = rng.uniform(0, 0.5, (images, count, 2))
        rois = jnp.array(np.concatenate([corner, corner + 0.4], -1) * [width, height, width, height], jnp.float32)
        ours, theirs = (
            functools.partial(roi_align, rois=rois, size=size, stride=4, impl=impl, sampling_ratio=ratio)
            for impl in ("einsum", "gather")
        )
        yield f"RoIAlign {size}x{size} of {count} RoIs, {maps.shape}: einsum, gather", ours, theirs, (maps,)

    x = normal(images, height, width, 3)
    stems, variables = {}, {}
    for kind in ("stride", "pool"):
        stems[kind], module = stem(kind, options.stem_width, options.widths)
        variables[kind] = module.init(jax.random.key(0), x)
    ours = lambda both: stems["stride"](both["stride"], x)  # noqa: E731
    theirs = lambda both: stems["pool"](both["pool"], x)  # noqa: E731
    yield f"stem, {x.shape}: two 3x3 at stride 2, 7x7 and max-pool", ours, theirs, (variables,)


def both_passes(function: Callable, arguments: tuple) -> Callable[[], None]:
    """A call that computes the function and its gradient in all arguments, and waits for them."""

    @jax.jit
    def run(arguments, cotangent):
        result, pull = jax.vjp(function, *arguments)
        return result, pull(cotangent)

    shape = jax.eval_shape(function, *arguments)
    cotangent = jax.random.normal(jax.random.key(1), shape.shape, shape.dtype)
    return lambda: jax.block_until_ready(run(arguments, cotangent))


def compare(ours: Callable, theirs: Callable, arguments: tuple, repeats: int) -> tuple[float, float]:
    """Median seconds of either, taken in turn."""
    calls = [both_passes(function, arguments) for function in (ours, theirs)]
    for call in calls:
        call()
    seconds = np.zeros((repeats, 2))
    for row in seconds:
        for i, call in enumerate(calls):
            began = time.perf_counter()
            call()
            row[i] = time.perf_counter() - began
    return tuple(np.median(seconds, 0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    print(f"{'forward and backward':<78}{'here':>9}{'obvious':>11}{'ratio':>7}")
    for name, ours, theirs, arguments in comparisons():
        here, obvious = compare(ours, theirs, arguments, repeats)
        print(f"{name:<78}{here * 1e3:>6.1f} ms{obvious * 1e3:>8.1f} ms{obvious / here:>6.2f}x", flush=True)


if __name__ == "__main__":
    main()
