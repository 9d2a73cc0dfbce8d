"""What Grad-CAM costs: 32 images x 10 classes, beside one forward and backward pass of the same batch.

python benchmarks/explain.py [--images=32] [--classes=10] [--side=128] [--repeats=7]

A narrow ResNet-18. The backward pass is that of the loss in all parameters, in evaluation mode; Grad-CAM is one jitted call for
all images and classes. The two alternate within one run, so that a busy machine slows down both; the ratio is that of the
medians. Fails where it is above 3 at c5, from where a class goes back through the linear layer alone.
"""

import argparse
import sys
import time

import jax
import numpy as np

import jaxvision
from jaxvision.explain import grad_cam as module
from jaxvision.explain.grad_cam import grad_cam

BOUND = 3.0
LAYERS = ("c5", "c4", "c3")


def both_passes(architecture, variables, batch):
    """A jitted function of the parameters: the loss's gradient."""
    rest = {name: value for name, value in variables.items() if name != "params"}

    def loss(params):
        outputs = architecture.model.apply({"params": params, **rest}, batch, train=False)
        return sum(total / count for total, count in architecture.losses(outputs, batch).values())

    return jax.jit(jax.value_and_grad(loss))


def measure(images: int, classes: int, side: int, repeats: int) -> dict[str, float]:
    """Median seconds: of "both passes", and of Grad-CAM at each of `LAYERS`."""
    architecture = jaxvision.create(
        "resnet", num_classes=classes, trunk_name="resnet18", widths=(16, 32, 64, 128), stem_width=16
    )
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (images, side, side, 3)).astype(np.uint8),
        "image_size": np.full((images, 2), side, np.int32),
        "label": rng.integers(0, classes, images).astype(np.int32),
    }
    batch = jax.device_put(batch)
    variables = jax.device_put(architecture.init(jax.random.key(0), batch))
    passes = both_passes(architecture, variables, batch)
    calls = {"both passes": lambda: passes(variables["params"])}
    for layer in LAYERS:
        calls[layer] = lambda layer=layer: grad_cam(architecture, variables, batch, layer, range(classes))
    seconds = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    compiled = module._grad_cam._cache_size()
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - began)
    assert module._grad_cam._cache_size() == compiled  # one compilation a layer serves every call
    return {name: float(np.median(values)) for name, values in seconds.items()}


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 32), ("classes", 10), ("side", 128), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(arguments)
    seconds = measure(**vars(options))
    whole = seconds.pop("both passes")
    print(f"{options.images} images of {options.side} x {options.side} pixels, {options.classes} classes")
    print(f"forward and backward pass {whole * 1e3:8.1f} ms")
    for layer, taken in seconds.items():
        print(f"Grad-CAM at {layer}            {taken * 1e3:8.1f} ms, {taken / whole:.2f} times that")
    return int(seconds["c5"] > BOUND * whole)


if __name__ == "__main__":
    sys.exit(main())
