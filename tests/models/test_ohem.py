import jax
import numpy as np
import pytest
from small import Network, example

from jaxvision import architecture as architectures
from jaxvision.models.detection.two_stage.ohem import hardest_rois
from jaxvision.ops.boxes import encode

NARROW = dict(backbone="vgg11", depths=(1, 1), widths=(4, 6), box_features=8, box_size=2, samples=6, detections=3)


def overlap(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(sides, 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    return shared / union if union > 0 else 0


def slow(rois, valid, losses, samples, threshold=0.7):
    """Rows, the greatest loss first, each taken unless it overlaps one that was."""
    taken = []
    for row in sorted(np.flatnonzero(valid), key=lambda row: (-losses[row], row)):
        if len(taken) < samples and all(overlap(rois[row], rois[other]) <= threshold for other in taken):
            taken.append(row)
    return taken


def test_the_hardest_are_those_of_a_slow_selection():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 20, (3, 60, 2))
    rois = np.concatenate([corners, corners + rng.uniform(10, 30, (3, 60, 2))], -1).astype(np.float32)
    losses = rng.choice([0.0, 0.5, 1.0, 2.0, 3.5], (3, 60)).astype(np.float32) + rng.uniform(0, 0.4, (3, 60))
    valid, classes = rng.random((3, 60)) < 0.8, rng.integers(0, 3, (3, 60))
    valid[2, 4:] = False
    candidates = {"rois": rois, "rois_valid": valid, "roi_matches": rng.integers(0, 5, (3, 60)), "roi_classes": classes}
    found = jax.device_get(jax.jit(lambda c, x: hardest_rois(c, x, 12))(candidates, losses.astype(np.float32)))
    for i in range(3):
        rows = slow(rois[i], valid[i], losses[i].astype(np.float32), 12)
        rows = [row for row in rows if classes[i, row]] + [row for row in rows if not classes[i, row]]
        count = len(rows)
        assert count == 12 if i < 2 else 0 < count <= 4
        np.testing.assert_array_equal(found["rois"][i, :count], rois[i, rows])
        np.testing.assert_array_equal(found["roi_classes"][i, :count], classes[i, rows])
        np.testing.assert_array_equal(found["roi_matches"][i, :count], candidates["roi_matches"][i, rows])
        assert found["rois_valid"][i].tolist() == [True] * count + [False] * (12 - count)
        assert (found["roi_classes"][i, count:] == 0).all()


def smooth_l1(error, beta):
    error = abs(error)
    return np.where(error < beta, error**2 / (2 * beta), error - beta / 2).sum()


def test_a_detector_learns_from_its_hardest_rois():
    """They are chosen by the losses of all RoIs, as evaluation without dropout sees them, from any overlap."""
    network = Network("fast_rcnn", **NARROW, norm="none", dropout=0.5, ohem=True)
    batch = network.batch([example(1), example(2)])
    variables = jax.tree.map(lambda leaf: leaf * 3, network.variables)  # so that losses differ
    options = {**network.architecture.options, "ohem": False, "samples": 27, "positive_fraction": 1.0}
    everything = architectures.create("fast_rcnn", **options)

    @jax.jit
    def apply(variables):
        rngs = {"dropout": jax.random.key(1), "sampler": jax.random.key(2)}
        return (
            network.architecture.model.apply(variables, batch, train=True, rngs=rngs),
            everything.model.apply(variables, batch, train=False),
        )

    chosen, seen = jax.device_get(apply(variables))
    for i in range(2):
        valid = seen["rois_valid"][i]
        assert valid.sum() == batch["proposals_valid"][i].sum() + 2 and chosen["rois_valid"][i].all()
        losses = []
        for roi, label, match, logits, deltas in zip(
            *(seen[name][i] for name in ("rois", "roi_classes", "roi_matches", "roi_logits", "roi_deltas"))
        ):
            loss = np.log(np.exp(np.float64(logits)).sum()) - logits[label]
            if label:
                target = np.array(encode(batch["boxes"][i, match], roi, (10, 10, 5, 5)))
                loss += smooth_l1(deltas[label] - target, 1.0)
            losses.append(loss)
        rows = slow(seen["rois"][i], valid, np.array(losses), 6)
        key = lambda roi: tuple(roi.tolist())  # noqa: E731
        assert sorted(map(key, chosen["rois"][i])) == sorted(map(key, seen["rois"][i][rows]))
    terms = network.architecture.losses(chosen, batch)
    assert terms["roi_class"][1] == 12 and not np.allclose(
        chosen["roi_logits"], network.forward(variables, batch)[0]["roi_logits"]
    )


def test_of_a_mask_rcnn_too_every_sample_may_be_an_object():
    architecture = architectures.create("mask_rcnn", num_classes=3, ohem=True, samples=64)
    assert architecture.model.ohem and architecture.model.max_positives == 64
    assert architectures.create("mask_rcnn", num_classes=3, samples=64).model.max_positives == 16


@pytest.mark.parametrize("name", ["fast_rcnn", "faster_rcnn", "mask_rcnn", "keypoint_rcnn"])
def test_it_is_an_option_of_every_two_stage_detector(name):
    assert architectures.create(name, num_classes=3, ohem=True).model.ohem
    assert not architectures.create(name, num_classes=3).model.ohem
