"""One step on one device, and over eight by jit, pmap and shard_map: the same sums, so the same parameters.

Every model runs in a process of its own, with eight devices made of one CPU.
"""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

DEVICES, STEPS = 8, 3
TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@functools.cache
def compare(name: str) -> dict:
    """What `python test_agreement.py NAME` finds."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={DEVICES}"
    flags += " --xla_cpu_collective_call_terminate_timeout_seconds=600"  # a busy machine may let a device wait
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": TESTS, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, __file__, name], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("way", ["jit", "pmap", "shard_map"])
@pytest.mark.parametrize("name", ["segmenter", "mask_rcnn"])
def test_eight_devices_are_one(name, way):
    """Parameters and running statistics after three steps to 1e-5 of each leaf's scale, and the losses on the way."""
    found = compare(name)
    assert found["devices"] == DEVICES
    leaf, difference = found["worst"][way]
    assert difference < 1e-5, leaf
    np.testing.assert_allclose(found["losses"][way], found["losses"]["one device"], 1e-5)


@pytest.mark.parametrize("name", ["segmenter", "mask_rcnn"])
def test_the_comparison_would_notice(name):
    """Most leaves moved by a hundred times what is allowed."""
    assert compare(name)["moved"] > 1e-3


def test_one_device_has_no_objects_and_the_others_differ():
    objects = compare("mask_rcnn")["objects"]
    assert objects[3] == 0 and 0 not in objects[:3] + objects[4:] and len(set(objects)) > 4


def test_a_batch_without_any_object_is_learned_from():
    assert np.isfinite(compare("mask_rcnn")["losses_without_objects"]).all()


def make(name, axis=None):
    """(architecture, batch): what is sampled exceeds what there is, so every anchor and every proposal is used."""
    from tiny import ARCHITECTURES, Rectangles

    from jaxvision import architecture as architectures
    from jaxvision import tasks
    from jaxvision.data.loader import Batches

    architectures.REGISTRY["segmenter"] = "segmenter:segmenter"
    options = {**ARCHITECTURES[name], "norm": "batch", "axis": axis}
    if name == "mask_rcnn":
        options |= dict(anchor_ratios=(1.0,), rpn_samples=700, pre_nms=(256, 8), post_nms=(16, 8), samples=44)
        assert 0.5 * options["rpn_samples"] >= 16**2 + 8**2 + 4**2 + 2**2 + 1  # the anchors
        assert 0.5 * options["samples"] >= 16 + 6  # the proposals and the ground truth
    source = Rectangles(counts=(2, 3, 1, 6, 0, 1, 0, 0, 4, 1, 5, 5, 1, 1, 2, 4))  # the fourth device: none
    source_of = {"segmenter": Rectangles(), "mask_rcnn": source}
    architecture = architectures.create(options.pop("name"), num_classes=4, **options)
    fields = tasks.get(architecture.task).fields
    batches = Batches(source_of[name], batch_size=16, fields=fields, canvases=[(64, 64)], max_boxes=6, mask_size=16)
    batch = batches[0]
    batch["image_size"][:, 1] = 40 + np.arange(16)  # every image leaves another part of the canvas empty
    if name == "segmenter":
        batch["semantic"][np.arange(64) >= batch["image_size"][:, None, 1:] + np.zeros((64, 1), int)] = 255
        batch["semantic"][6:8] = 255
    return architecture, {key: batch[key] for key in ("image", "image_size", "real", *fields)}


def main(name):
    import jax
    import optax
    from jax.sharding import PartitionSpec

    from jaxvision.train import sharding
    from jaxvision.train.state import TrainState
    from jaxvision.train.step import train_step

    optimizer = optax.sgd(0.05)
    architecture, batch = make(name)
    mapped, _ = make(name, "data")
    variables = jax.device_get(architecture.init(jax.random.key(0), batch))
    mesh = sharding.make_mesh()
    whole, split = PartitionSpec(), PartitionSpec("data")
    step = functools.partial(train_step, architecture=architecture, optimizer=optimizer)
    mapped_step = functools.partial(train_step, architecture=mapped, optimizer=optimizer, axis="data")
    shards = {key: value.reshape(DEVICES, -1, *value.shape[1:]) for key, value in batch.items()}
    start = TrainState.create(variables, optimizer)
    spread = jax.pmap(lambda tree: tree)  # so that the first step is compiled for what the later ones get
    one_device = jax.jit(step)
    over = {
        "one device": (one_device, start, batch),
        "jit": (jax.jit(step), jax.device_put(start, sharding.replicated(mesh)), sharding.put(batch, mesh)),
        "pmap": (
            jax.pmap(mapped_step, "data"),
            spread(jax.tree.map(lambda x: np.stack([x] * DEVICES), start)),
            spread(shards),
        ),
        "shard_map": (
            jax.jit(jax.shard_map(mapped_step, mesh=mesh, in_specs=(whole, split), out_specs=whole, check_vma=False)),
            jax.device_put(start, sharding.replicated(mesh)),
            sharding.put(batch, mesh),
        ),
    }
    states, losses = {}, {}
    for way, (run, state, rows) in over.items():
        losses[way] = []
        for _ in range(STEPS):
            state, metrics = run(state, rows)
            losses[way].append(np.asarray(metrics["loss"]).flat[0].item())
        if way == "pmap":
            state = jax.tree.map(lambda x: x[0], state)
        states[way] = jax.device_get((state.params, state.stats))

    def difference(a, b):
        """{leaf: the largest difference by the leaf's scale}."""
        pairs = zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b))
        return {
            jax.tree_util.keystr(p): float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-12)) for (p, x), y in pairs
        }

    wanted = states["one device"]
    worst = {way: difference(wanted, states[way]) for way in over}
    moved = difference(wanted, (variables["params"], {k: v for k, v in variables.items() if k != "params"}))
    report = {
        "devices": jax.device_count(),
        "losses": losses,
        "worst": {way: max(found.items(), key=lambda item: item[1]) for way, found in worst.items()},
        "moved": float(np.median(list(moved.values()))),
    }
    if name == "mask_rcnn":
        report["objects"] = batch["valid"].reshape(DEVICES, -1).sum(1).tolist()
        empty = {**batch, "valid": np.zeros_like(batch["valid"])}
        state, report["losses_without_objects"] = start, []
        for _ in range(STEPS):
            state, metrics = one_device(state, empty)
            report["losses_without_objects"] += [float(value) for value in metrics.values()]
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
