"""Keypoint R-CNN against torchvision's own outputs."""

import functools

import jax
import numpy as np
import pytest
from test_two_stage import LOSSES, SMALL, SMALL_TRUNK, entry_shapes, formula, matches, on_canvas, ratio
from test_two_stage import golden as golden_of

from jaxvision.interop.convert import abstract, from_torch, places, to_torch
from jaxvision.interop.keypoint_rcnn import BUILDERS

NAME = "keypointrcnn_resnet50_fpn"
BUILDER = BUILDERS[NAME]


def golden() -> dict:
    return golden_of(NAME)


@functools.cache
def loaded():
    return from_torch(BUILDER, abstract(BUILDER.create()), formula.state_dict(entry_shapes(NAME)))


# Names


def test_every_entry_has_torchvisions_name_and_shape():
    shapes = {
        BUILDER.name(place): BUILDER.layout(place, np.empty(leaf.shape, bool), True).shape
        for place, (_, leaf) in places(abstract(BUILDER.create())).items()
    }
    assert shapes == {k: v for k, v in entry_shapes(NAME).items() if not k.endswith("num_batches_tracked")}


def test_to_torch_and_back_is_exact_under_old_names_too():
    shapes = abstract(BUILDER.create(**SMALL, **SMALL_TRUNK, joints=5, keypoint_convs=(8, 8)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    entries = to_torch(BUILDER, variables)
    jax.tree.map(np.testing.assert_array_equal, from_torch(BUILDER, shapes, entries), variables)
    old = {name.replace("rpn.head.conv.0.0.", "rpn.head.conv."): value for name, value in entries.items()}
    jax.tree.map(np.testing.assert_array_equal, from_torch(BUILDER, shapes, old), variables)


# Numbers


@functools.cache
def detected(index: int) -> dict:
    """Detections of one picture on its own canvas, in pixels of the original."""
    architecture, size = BUILDER.create(), golden()[f"image_size.{index}"]
    batch = {
        "image": on_canvas(index, size, golden()[f"input_shape.{index}"][2:]),
        "image_size": size[None].astype(np.int32),
    }

    @jax.jit
    def forward(variables):
        return architecture.predict(architecture.model.apply(variables, batch), batch)

    predictions = jax.device_get(forward(loaded()))
    found = {key: value[0][predictions["valid"][0]] for key, value in predictions.items() if key != "overflow"}
    scale = ratio(index, size)
    return found | {"boxes": found["boxes"] / scale, "keypoints": found["keypoints"] / [*scale[:2], 1]}


@pytest.mark.parity
@pytest.mark.parametrize("few", [False, True], ids=["all", "few"])
@pytest.mark.parametrize("index", [0, 1])
def test_detections_and_their_joints(index, few):
    found, prefix = detected(index), "few." if few else ""
    above = found["scores"] > (golden()[f"few.threshold.{index}"] if few else 0)
    expected = {key: golden()[f"{prefix}{key}.{index}"] for key in ("boxes", "labels", "scores")}
    same = matches(found["boxes"], expected["boxes"]) & (found["classes"][:, None] == expected["labels"])
    same &= np.abs(found["scores"][:, None] - expected["scores"]) < 1e-3
    same = same[above]
    # One score may lie on either side of the threshold, which is itself a score.
    allowed = 1 if few else 0.02 * len(expected["boxes"])
    assert (~same.any(0)).sum() <= allowed and (~same.any(1)).sum() <= allowed
    if not few:
        rows, columns = same.any(1), same.argmax(1)[same.any(1)]
        assert found["keypoints"].shape == (len(rows), 17, 3) and (found["keypoints"][..., 2] == 1).all()
        joints, scores = golden()[f"keypoints.{index}"][columns], golden()[f"keypoints_scores.{index}"][columns]
        near = np.abs(found["keypoints"][rows] - joints).max(-1) < 0.1
        assert near.mean() >= 0.99  # two pixels may be equally high but for rounding
        np.testing.assert_allclose(found["keypoint_scores"][rows], scores, atol=1e-4 * np.abs(scores).max())


@functools.cache
def learned() -> tuple[dict, dict]:
    """(mean losses, gradients by torch's names) of both pictures on one canvas, with everything sampled."""
    everything = dict(rpn_samples=10**7, samples=10**7, positive_fraction=0.5)
    room = dict(post_nms=(1400, 1400), max_positives=48)  # more than are found, and less than by default
    architecture = BUILDER.create(**everything, **room, roi_impl="einsum")  # which needs less memory
    sizes = [golden()[f"image_size.{i}"] for i in range(2)]
    boxes = [golden()[f"target.boxes.{i}"] * ratio(i, size) for i, size in enumerate(sizes)]
    joints = [golden()[f"target.keypoints.{i}"] * [*ratio(i, size)[:2], 1] for i, size in enumerate(sizes)]
    canvas = golden()["batch_shape"][2:]
    batch = {
        "image": np.concatenate([on_canvas(i, size, canvas) for i, size in enumerate(sizes)]),
        "image_size": np.array(sizes, np.int32),
        "boxes": np.stack(boxes).astype(np.float32),
        "classes": np.ones((2, 4), np.int32),
        "valid": np.ones((2, 4), bool),
        "keypoints": np.stack(joints).astype(np.float32),
    }

    @jax.jit
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
    names = {name: LOSSES.get(name, name) for name in learned()[0]}
    assert {f"loss.loss_{theirs}" for theirs in names.values()} == {k for k in golden() if k.startswith("loss.")}
    for ours, theirs in names.items():
        assert learned()[0][ours] == pytest.approx(float(golden()[f"loss.loss_{theirs}"]), rel=1e-4), ours


@pytest.mark.slow
@pytest.mark.parity
def test_gradients():
    gradients = learned()[1]
    norms = {key.removeprefix("gradnorm."): value for key, value in golden().items() if key.startswith("gradnorm.")}
    assert norms.keys() == gradients.keys()
    slack = 1e-6 * max(norms.values())
    for key, norm in norms.items():
        assert abs(np.linalg.norm(gradients[key]) - norm) <= 1e-3 * norm + slack, key
        entries = gradients[key].ravel()
        entries = entries[:: max(1, entries.size // 16)][:16]
        np.testing.assert_allclose(entries, golden()[f"grad16.{key}"], rtol=1e-3, atol=slack, err_msg=key)
