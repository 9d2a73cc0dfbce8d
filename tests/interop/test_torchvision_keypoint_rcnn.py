"""Keypoint R-CNN against torchvision's own outputs."""

import functools

import jax
import numpy as np
import pytest
from test_two_stage import LOSSES, SMALL, SMALL_TRUNK
from torch_golden import (
    both,
    check_detections,
    check_gradients,
    check_losses,
    check_names,
    detections,
    expected,
    golden,
    load,
    optimized_jit,
    ratio,
    single,
)

import jaxvision
from jaxvision.interop.convert import abstract, from_torch, to_torch
from jaxvision.interop.keypoint_rcnn import BUILDERS

NAME = "keypointrcnn_resnet50_fpn"
BUILDER = BUILDERS[NAME]

loaded = functools.cache(lambda: load(BUILDER, NAME))


# Names


def test_every_entry_has_torchvisions_name_and_shape():
    check_names(BUILDER, NAME)


def test_to_torch_and_back_is_exact_under_old_names_too():
    shapes = abstract(BUILDER.create(**SMALL, **SMALL_TRUNK, joints=5, keypoint_convs=(8, 8)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    entries = to_torch(BUILDER, variables)
    jax.tree.map(np.testing.assert_array_equal, from_torch(BUILDER, shapes, entries), variables)
    old = {name.replace("rpn.head.conv.0.0.", "rpn.head.conv."): value for name, value in entries.items()}
    jax.tree.map(np.testing.assert_array_equal, from_torch(BUILDER, shapes, old), variables)


def test_other_joints_are_a_new_last_layer():
    narrow = dict(**SMALL, **SMALL_TRUNK, keypoint_convs=(8, 8))
    shapes = abstract(BUILDER.create(**narrow))
    entries = to_torch(BUILDER, jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes))
    architecture, variables = jaxvision.load_torchvision(NAME, entries, joints=5, **narrow)
    params = variables["params"]
    assert params["keypoint_head"]["logits"].shape[2] == 5 and len(params["keypoint_head"]["logits_bias"]) == 5
    assert architecture.options["joints"] == 5 and np.std(params["keypoint_head"]["logits"]) > 0
    others = {**params, "keypoint_head": {**params["keypoint_head"], "logits": 0.5, "logits_bias": 0.5}}
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0.5), others)
    _, same = jaxvision.load_torchvision(NAME, entries, joints=17, **narrow)
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0.5), same)


# Numbers


@functools.cache
def detected(index: int) -> dict:
    """Detections of one picture on its own canvas, in pixels of the original."""
    architecture, batch = BUILDER.create(), single(NAME, index)

    @optimized_jit
    def forward(variables):
        return architecture.predict(architecture.model.apply(variables, batch), batch)

    found = detections(NAME, index, jax.device_get(forward(loaded())))
    scale = ratio(index, golden(NAME)[f"image_size.{index}"])
    return found | {"keypoints": found["keypoints"] / [*scale[:2], 1]}


@pytest.mark.parity
@pytest.mark.parametrize("few", [False, True], ids=["all", "few"])
@pytest.mark.parametrize("index", [0, 1])
def test_detections_and_their_joints(index, few):
    found = detected(index)
    above = found["scores"] > (golden(NAME)[f"few.threshold.{index}"] if few else 0)
    pairs = check_detections({key: value[above] for key, value in found.items()}, expected(NAME, index, few), few)
    if not few:
        rows, columns = pairs.any(1), pairs.argmax(1)[pairs.any(1)]
        assert found["keypoints"].shape == (len(rows), 17, 3) and (found["keypoints"][..., 2] == 1).all()
        joints, scores = golden(NAME)[f"keypoints.{index}"][columns], golden(NAME)[f"keypoints_scores.{index}"][columns]
        near = np.abs(found["keypoints"][rows] - joints).max(-1) < 0.1
        assert near.mean() >= 0.99  # two pixels may be equally high but for rounding
        np.testing.assert_allclose(found["keypoint_scores"][rows], scores, atol=1e-4 * np.abs(scores).max())


@functools.cache
def learned() -> tuple[dict, dict]:
    """(mean losses, gradients by torch's names) of both pictures on one canvas, with everything sampled."""
    everything = dict(rpn_samples=10**7, samples=10**7, positive_fraction=0.5)
    room = dict(post_nms=(1400, 1400), max_positives=48)  # more than are found, and less than by default
    architecture = BUILDER.create(**everything, **room, roi_impl="einsum")  # which needs less memory
    batch = both(NAME)
    scales = [ratio(i, size)[:2] for i, size in enumerate(batch["image_size"])]
    joints = [golden(NAME)[f"target.keypoints.{i}"] * [*scale, 1] for i, scale in enumerate(scales)]
    batch |= {"classes": np.ones((2, 4), np.int32), "keypoints": np.stack(joints).astype(np.float32)}

    @optimized_jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def gradient(params, variables):
        rngs = {"sampler": jax.random.key(0)}
        outputs = architecture.model.apply({**variables, "params": params}, batch, train=True, rngs=rngs)
        terms = architecture.losses(outputs, batch)
        means = {key: total / jax.numpy.maximum(count, 1) for key, (total, count) in terms.items()}
        return sum(means.values()), (means, outputs["keypoint_overflow"], outputs["proposals_valid"])

    (_, (means, overflow, proposed)), gradients = jax.device_get(gradient(loaded()["params"], loaded()))
    assert (overflow == 0).all() and not proposed.all(1).any()
    return means, to_torch(BUILDER, {"params": gradients})


@pytest.mark.slow
@pytest.mark.parity
def test_losses():
    check_losses(NAME, learned()[0], LOSSES)


@pytest.mark.slow
@pytest.mark.parity
def test_gradients():
    check_gradients(NAME, learned()[1])
