"""Two-stage detectors without a pyramid, as they were published: on VGG16, and on a ResNet's c4 with its last stage on RoIs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import Network, check_predictions_are_blind, example, shapes
from test_ohem import overlap
from test_parameter_counts import VGG16, normalisation, size

from jaxvision import architecture as architectures
from jaxvision.models.backbones.resnet import ResNet
from jaxvision.models.backbones.vgg import VGG
from jaxvision.models.detection.two_stage.roi_heads import Pooler
from jaxvision.models.detection.two_stage.roi_stage import RoIStage
from jaxvision.models.detection.two_stage.rpn import RPN, rpn_losses
from jaxvision.ops.pool import max_pool
from jaxvision.ops.roi import assign_levels, roi_align
from jaxvision.ops.roi_pool import roi_pool
from jaxvision.ops.roi_warp import roi_warp
from jaxvision.train.state import TrainState
from jaxvision.train.step import train_step

C4 = dict(  # stride 8: three stages, of which the last is on RoIs
    backbone="resnet18_c4",
    depths=(1, 1, 1),
    widths=(12, 16, 24),
    stem="stride",
    stem_width=8,
    norm="none",
    anchor_sizes=((16, 24, 32, 48),),
    rpn_features=16,
    rpn_min_side=2,
    rpn_samples=32,
    pre_nms=(64, 64),
    post_nms=(24, 24),
    samples=24,
    positive_fraction=0.5,
    roi_impl="einsum",
    sampling_ratio=1,
    box_size=4,
    box_features=None,
    box_fcs=None,
    roi_levels=None,
    class_agnostic=False,
    detections=5,
    candidates=50,
)


# Sizes

RESNET50 = 25_557_032 - 53_120 - 2049 * 1000  # without its classifier and normalisation


def test_faster_rcnn_on_vgg16_is_the_papers():
    """Its RPN has 2.4 M, as section 3.3 counts; objectness is one logit, which the paper's first footnote on it allows."""
    params = shapes("faster_rcnn", canvas=(64, 64), num_classes=21, backbone="vgg16")["params"]
    assert size(params["trunk"]) == sum((9 * i + 1) * o for i, o in VGG16)
    assert size(params["rpn"]) == (9 * 512 + 1) * 512 + 513 * 9 * (1 + 4)
    assert size(params["box_head"]) == 25089 * 4096 + 4097 * 4096 + 4097 * 21 * (1 + 4)
    assert size(params) == 134_690_729 + 2_382_893 and round(size(params["rpn"]) / 1e5) == 24


@pytest.mark.parametrize("options", [{}, dict(box_size=14, stage_stride=2)])
def test_mask_rcnn_on_c4_is_the_papers(options):
    """A whole ResNet-50 in two parts, 15 anchors, and one transposed convolution to 14 x 14 masks behind the last stage."""
    network = functools.partial(shapes, "mask_rcnn", canvas=(64, 64), num_classes=81, backbone="resnet50_c4")
    params = network(**options)["params"]
    parts = {name: size(part) - normalisation(part) for name, part in params.items()}
    assert parts.keys() == {"trunk", "stage", "rpn", "box_head", "mask_head"}
    assert parts["trunk"] + parts["stage"] == RESNET50 and normalisation(params) == 53_120
    assert parts["rpn"] == (9 * 1024 + 1) * 512 + 513 * 15 * 5
    assert parts["box_head"] == 2049 * 81 * 5
    assert parts["mask_head"] == 4 * 2048 * 256 + 256 + 257 * 81
    assert list(params["stage"]) == ["c5_block0", "c5_block1", "c5_block2"]
    boxes = shapes("faster_rcnn", canvas=(64, 64), num_classes=81, backbone="resnet50_c4", **options)["params"]
    assert size(boxes) == size(params) - parts["mask_head"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "vgg16_fpn"}, "no trunk 'vgg16'"),
        ({"backbone": "resnet50"}, 'should read "resnet50_fpn", "resnet50_c4"'),
        ({"backbone": "resnet50_c4", "anchor_sizes": ((32,), (64,))}, "equally long tuples for c4 or"),
        ({"backbone": "vgg16", "anchor_sizes": ((32,), (64,))}, "equally long tuples for c5 or"),
        ({"backbone": "vgg16", "roi_levels": ("p2",)}, "'vgg16' has none"),
        ({"rpn_box_over": "anchors"}, '"samples" or "locations"'),
        ({"learn": ()}, "should hold"),
        ({"learn": ("rpn", "mask")}, "should hold"),
    ],
)
def test_options_that_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.create("faster_rcnn", num_classes=3, **options)


# Parts


def test_the_last_stage_on_regions_is_the_resnets():
    options = dict(block="bottleneck", widths=(2, 4), stem="stride", stem_width=4, norm="batch")
    whole = ResNet(depths=(1, 2), **options)
    image = jax.random.normal(jax.random.key(0), (2, 24, 24, 3))
    variables = jax.jit(whole.init)(jax.random.key(1), image)
    maps = jax.jit(whole.apply)(variables, image)
    block = dict(kind="bottleneck", width=4, inner=4, groups=1, norm="batch", axis=None, dtype=jnp.float32)
    own = {
        kind: {name: part for name, part in variables[kind].items() if name.startswith("c3")}
        for kind in ("params", "batch_stats")
    }
    found = jax.jit(lambda x: RoIStage(3, 2, 2, block).apply(own, x, False))(maps["c2"][:, None])
    np.testing.assert_allclose(found[:, 0], maps["c3"], rtol=1e-5, atol=1e-6)


def test_vgg_without_its_last_pool():
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
    whole, cut = (VGG((1, 1), (4, 6), last_pool=pooled) for pooled in (True, False))
    variables = {"params": jax.jit(whole.init)(jax.random.key(1), image)["params"]}
    found = jax.jit(cut.apply)(variables, image)["c2"]
    assert found.shape == (1, 8, 8, 6) and cut.geometry()["c2"].stride == 2
    np.testing.assert_allclose(max_pool(found, 2), jax.jit(whole.apply)(variables, image)["c2"], rtol=1e-6)


@pytest.mark.parametrize(("op", "crop"), [("pool", roi_pool), ("warp", roi_warp), ("align", roi_align)])
def test_regions_are_taken_from_their_own_level(op, crop):
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(2, 64 >> n, 64 >> n, 3)).astype(np.float32) for n in (2, 3)]
    rois = np.array([[[0, 0, 20, 20], [4, 8, 60, 60]], [[1, 2, 50, 62], [30, 30, 40, 44]]], np.float32)
    pooler = Pooler((4, 8), op=op, canonical_size=96)
    found = jax.jit(lambda maps: pooler.apply({}, maps, rois, 3))(maps)
    for i in range(2):
        for j, level in enumerate(np.array(assign_levels(rois[i], 2, 3, canonical_size=96))):
            own = crop(maps[level][i], rois[i, j : j + 1], 3, 1 / (4, 8)[level])[0]
            np.testing.assert_allclose(found[i, j], own, atol=1e-5)
    assert {assign_levels(r, 2, 3, canonical_size=96).tolist()[0] for r in rois} == {0, 1}
    with pytest.raises(ValueError, match="roi_op 'crop' is not one of"):
        Pooler((4,), op="crop").apply({}, maps[:1], rois, 3)


# The RPN's rules


def test_anchors_that_cross_the_border_are_left_out():
    """They neither count nor take a ground truth's best place from those inside, which then is object at a low overlap."""
    anchors = np.array(
        [[0, 0, 20, 20], [10, 10, 30, 30], [-5, 0, 15, 20], [20, 20, 41, 40], [20, 10, 40, 30], [30, 30, 50, 50]],
        np.float32,
    )
    batch = {
        "boxes": np.array([[[-3, 0, 14, 20], [26, 26, 44, 44]], [[0, 0, 20, 20], [0, 0, 0, 0]]], np.float32),
        "valid": np.array([[True, True], [True, False]]),
        "image_size": np.array([[40, 40], [64, 64]], np.int32),
    }
    rpn = RPN(sizes=((20,),), border=False, samples=6)
    keys = jax.random.split(jax.random.key(0))
    found = jax.device_get(jax.jit(lambda batch: rpn.sample(jnp.array(anchors), batch, keys))(batch))
    for i in range(2):
        height, width = batch["image_size"][i]
        inside = [n for n, (x1, y1, x2, y2) in enumerate(anchors) if min(x1, y1) >= 0 and x2 <= width and y2 <= height]
        truth = batch["boxes"][i][batch["valid"][i]]
        overlaps = np.array([[overlap(anchors[n], box) for n in inside] for box in truth])
        label = {}
        for n, own in zip(inside, overlaps.T):
            positive = own.max() >= 0.7 or (own == overlaps.max(1)).any()
            if positive or own.max() < 0.3:
                label[n] = positive
        rows = found["rpn_samples_valid"][i]
        assert dict(zip(found["rpn_samples"][i][rows].tolist(), found["rpn_positive"][i][rows].tolist())) == label
    assert set(inside) == {0, 1, 3, 4, 5}
    loose = RPN(sizes=((20,),), samples=6)
    everything = jax.jit(lambda batch: loose.sample(jnp.array(anchors), batch, keys))(batch)
    assert 2 in np.array(everything["rpn_samples"])[0][np.array(everything["rpn_positive"])[0]]


def test_the_rpns_losses_by_the_papers_formula():
    """1 / N_cls sum L_cls + lambda / N_reg sum p* L_reg, N_cls = 256 sampled anchors and N_reg the locations."""
    rng = np.random.default_rng(0)
    anchors = np.tile(np.array([[10, 10, 30, 40]], np.float32), (12, 1)) + rng.uniform(-5, 5, (12, 4)).astype(
        np.float32
    )
    outputs = {
        "anchors": anchors,
        "rpn_logits": rng.normal(size=(2, 12)),
        "rpn_deltas": rng.normal(size=(2, 12, 4)),
        "rpn_samples": np.array([[3, 5, 0], [2, 7, 0]]),
        "rpn_samples_valid": np.array([[True, True, False], [True, True, True]]),
        "rpn_positive": np.array([[True, False, False], [True, True, False]]),
        "rpn_matches": np.array([[1, 0, 0], [0, 1, 0]]),
    }
    batch = {"boxes": rng.uniform(0, 20, (2, 2, 4)).astype(np.float32)}
    batch["boxes"][..., 2:] += 25
    by_samples, by_locations = (rpn_losses(outputs, batch, None, number) for number in (None, 3))
    box = 0.0
    for i, row in ((0, 0), (1, 0), (1, 1)):
        n, (x1, y1, x2, y2) = outputs["rpn_samples"][i, row], batch["boxes"][i, outputs["rpn_matches"][i, row]]
        a1, b1, a2, b2 = anchors[n]
        w, h = a2 - a1, b2 - b1
        target = [((x1 + x2) - (a1 + a2)) / 2 / w, ((y1 + y2) - (b1 + b2)) / 2 / h]
        target += [np.log((x2 - x1) / w), np.log((y2 - y1) / h)]
        error = abs(outputs["rpn_deltas"][i, n] - target)
        box += np.where(error < 1 / 9, 4.5 * error**2, error - 0.5 / 9).sum()  # sigma 3
    total = sum(
        np.log1p(np.exp(-x if positive else x))
        for x, positive in zip(outputs["rpn_logits"][[0, 0, 1, 1, 1], [3, 5, 2, 7, 0]], (1, 0, 1, 1, 0))
    )
    for terms, count in ((by_samples, 5), (by_locations, 2 * 4)):
        np.testing.assert_allclose(terms["rpn_box"], (box, count), rtol=1e-5)
        np.testing.assert_allclose(terms["rpn_objectness"], (total, 5), rtol=1e-5)
    only = rpn_losses(outputs, batch, np.array([True, False]), 3)
    assert only["rpn_box"][1] == 4


# Whole networks


@pytest.fixture(scope="module")
def on_c4():
    return Network("mask_rcnn", **C4, mask_convs=None, mask_size=None, mask_features=12)


def test_mask_rcnn_on_c4_learns_two_pictures_by_heart(on_c4):
    optimizer = optax.adam(3e-3)
    step = jax.jit(functools.partial(train_step, architecture=on_c4.architecture, optimizer=optimizer))
    state, batch = TrainState.create(on_c4.variables, optimizer), on_c4.batch(on_c4.pictures)
    losses = []
    for _ in range(120):
        state, metrics = step(state, batch)
        losses.append(metrics["loss"])
    assert np.mean(losses[-5:]) < losses[0] / 4
    _, _, predictions = on_c4.forward(state.variables(), batch)
    assert predictions["masks"].shape == (2, 5, 8, 8)
    for i in range(2):
        for box, label in zip(batch["boxes"][i][:2], batch["classes"][i][:2]):
            rows = zip(*(predictions[name][i] for name in ("boxes", "classes", "scores")))
            assert any(c == label and s > 0.5 and overlap(np.array(b), box) > 0.5 for b, c, s in rows)


def test_predictions_do_not_see_the_ground_truth(on_c4):
    check_predictions_are_blind(on_c4)


def test_alternating_training_learns_one_half_at_a_time():
    """The second stage's proposals are those of the first one's trunk and RPN, which get no gradient; a half that is not
    learned has no losses."""
    first = Network("faster_rcnn", **{**C4, "norm": "batch"}, learn=("rpn",))
    second = Network("faster_rcnn", **{**C4, "norm": "batch"}, learn=("roi",), own_rpn_trunk=True)
    batch = first.batch([example(1), example(2)])
    outputs, terms, _ = first.forward(first.variables, batch)
    assert terms.keys() == {"rpn_objectness", "rpn_box"} and "rois" not in outputs

    def taken(kind):
        other = jax.tree.map(lambda leaf: leaf + 0.01, second.variables[kind])
        return (
            other
            | {"rpn_trunk": first.variables[kind]["trunk"]}
            | ({"rpn": first.variables[kind]["rpn"]} if kind == "params" else {})
        )

    variables = {kind: taken(kind) for kind in ("params", "batch_stats")}

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def learn(params):
        rngs = {"dropout": jax.random.key(1), "sampler": jax.random.key(2)}
        outputs, stats = second.architecture.model.apply(
            {**variables, "params": params}, batch, train=True, rngs=rngs, mutable=["batch_stats"]
        )
        terms = second.architecture.losses(outputs, batch)
        return sum(total for total, _ in terms.values()), (outputs, stats["batch_stats"], terms)

    (_, (found, stats, terms)), gradient = learn(variables["params"])
    assert terms.keys() == {"roi_class", "roi_box"} and "rpn_samples" not in found
    np.testing.assert_allclose(found["proposals"], outputs["proposals"], rtol=1e-4, atol=1e-3)
    for part in ("rpn", "rpn_trunk"):
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient[part]))
    for part in ("trunk", "stage", "box_head"):
        assert any((leaf != 0).any() for leaf in jax.tree.leaves(gradient[part]))
    same = jax.tree.map(np.array_equal, stats["rpn_trunk"], variables["batch_stats"]["rpn_trunk"])
    assert all(jax.tree.leaves(same))  # running statistics too stay as they are
