import functools
import pathlib
import re
import runpy

import jax
import numpy as np
import pytest
from small import SIDE, Network, check_predictions_are_blind, create, empty, example

from jaxvision import architecture as architectures
from jaxvision import config as configs
from jaxvision import tasks
from jaxvision.predictor import Predictor
from jaxvision.train.loop import make_batches

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
BOXES = SIDE * np.array([[0.1, 0.1, 0.6, 0.5], [0.3, 0.2, 0.9, 0.9], [0, 0, 1, 1]], np.float32)


@pytest.fixture(scope="module")
def network():
    return Network("rcnn")


def test_predictions_see_no_ground_truth(network):
    check_predictions_are_blind(network)


def test_the_softmaxs_rule_against_a_slow_loop(network):
    """0.5 or more with any object, the objects themselves among them, else background; a share of them at most."""
    pictures = [example(number) for number in range(4)] + [empty(4)]
    for start in range(0, 5, 2):
        chosen = (pictures[start : start + 2] * 2)[:2]
        batch = network.batch(chosen)
        outputs, _, _ = network.forward(network.variables, batch)
        for i, picture in enumerate(chosen):
            candidates = [*picture["proposals"], *picture["boxes"]]
            labels = {tuple(np.round(box, 3)): slow_label(box, picture) for box in candidates}
            rois, kept = np.array(outputs["rois"][i]), np.array(outputs["rois_valid"][i])
            assert [labels[tuple(np.round(roi, 3))] for roi in rois[kept]] == outputs["roi_classes"][i][kept].tolist()
            positive = sum(label > 0 for label in map(functools.partial(slow_label, picture=picture), candidates))
            assert (outputs["roi_classes"][i][kept] > 0).sum() == min(positive, 6)
            assert kept.sum() == min(12, min(positive, 6) + len(candidates) - positive)


def slow_label(box, picture):
    best, label = 0.0, 0
    for other, kind in zip(picture["boxes"], picture["classes"]):
        w, h = min(box[2], other[2]) - max(box[0], other[0]), min(box[3], other[3]) - max(box[1], other[1])
        shared = max(w, 0) * max(h, 0)
        area = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
        if shared / area > best:
            best, label = shared / area, kind
    return int(label) if best >= 0.5 else 0


def test_the_papers_quota_is_32_and_96():
    model = architectures.create("rcnn", num_classes=21).model
    assert (model.samples, int(model.samples * model.positive_fraction), model.least_overlap) == (128, 32, 0)


def test_layers_learn_at_the_authors_rates():
    factors = runpy.run_path(str(CONFIGS / "rcnn_voc.py"))["get_config"]().optimizer.factors
    layers = ("logits/bias", "logits/kernel", "fc6/bias", "trunk/conv1/kernel")
    rates = [next((f for pattern, f in factors if re.search(pattern, layer)), 1) for layer in layers]
    assert rates == [20, 10, 2, 1]


@pytest.mark.parametrize("name", ["rcnn_scenes", "sppnet_scenes"])
def test_on_scenes_the_trunk_first_learns_objects_as_large_as_in_regions(name, prepared, monkeypatch):
    """From whole scenes of 64 pixels, whose objects have 8 to 32, it learns nothing."""
    monkeypatch.syspath_prepend(str(CONFIGS.parent))
    config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]()
    data, task = {**config.stages[0]["data"], "dir": prepared("single")}, tasks.get("detection")
    batch = make_batches(configs.override(config, {"data": data}), "train", task, train=True)[0]
    sides = (batch["boxes"][:, 0, 2:] - batch["boxes"][:, 0, :2]).max(1) / 64
    assert 0.5 < sides.mean() < 0.8 and batch["valid"].sum() == len(sides)


def test_regions_in_parts_give_what_all_at_once_give(network):
    batch = {k: v for k, v in network.batch([example(1), example(2)]).items() if k not in ("boxes", "classes", "valid")}
    parted = create("rcnn", chunk=5)  # which does not divide the twelve
    outputs = jax.jit(parted.model.apply)(network.variables, batch)
    whole = jax.jit(network.architecture.model.apply)(network.variables, batch)
    assert "c1" not in outputs
    for name, value in outputs.items():
        np.testing.assert_allclose(value, whole[name], atol=1e-4, err_msg=name)


def test_margins_become_scores_and_boxes_are_corrected_by_class(network):
    """Of an SVM and a regression that say the same of every region."""
    architecture = create("rcnn", classifier="svm")
    params = jax.tree.map(np.array, network.variables["params"])
    params["svm"] = {"kernel": np.zeros_like(params["svm"]["kernel"]), "bias": np.array([-9.0, 1.0, 0.0], np.float32)}
    shift = np.array([[0, 0, 0, 0], [0.1, 0, 0, np.log(0.5)], [0, 0, 0, 0]], np.float32)
    params["box"] = {"kernel": np.zeros_like(params["box"]["kernel"]), "bias": shift.reshape(-1)}
    picture = {**example(0), "proposals": np.array([[10, 20, 30, 40]], np.float32)}
    batch = network.batch([picture])
    outputs = jax.jit(architecture.model.apply)({"params": params}, batch)
    [boxes], [classes], [scores], [valid] = (np.array(outputs[k]) for k in ("boxes", "classes", "scores", "valid"))
    assert valid.tolist() == [True, True, False, False, False] and classes[:2].tolist() == [2, 3]
    np.testing.assert_allclose(scores[:2], [1 / (1 + np.exp(-1)), 0.5], rtol=1e-6)
    np.testing.assert_allclose(boxes[:2], [[12, 25, 32, 35], [10, 20, 30, 40]], atol=1e-4)


def test_a_predictor_finds_proposals_in_the_images_it_is_given(network):
    search = dict(method="selective_search", strategy="single", base_k=100, width=0, min_size=6, count=12)
    pictures = [example(3)["image"], np.ascontiguousarray(example(4)["image"][:48])]
    with pytest.raises(ValueError, match="rcnn looks at proposed regions: give proposals"):
        Predictor(network.architecture, network.variables)
    predictor = Predictor(network.architecture, network.variables, proposals=search, canvas=(SIDE, SIDE))
    own = [predictor.proposals(picture) for picture in pictures]
    for i, result in enumerate(predictor(pictures)):
        assert len(result["boxes"]) and len(own[i])
        for box in result["boxes"]:  # nothing is fitted yet, so that boxes are as they were proposed
            assert np.abs(own[i] - box).max(1).min() < 1e-3
    given = Predictor(network.architecture, network.variables, proposals=lambda image: BOXES[:2], canvas=(SIDE, SIDE))
    [result] = given([pictures[0]])
    assert {tuple(np.round(box, 2)) for box in result["boxes"]} <= {tuple(np.round(box, 2)) for box in BOXES[:2]}
    none = Predictor(network.architecture, network.variables, proposals=lambda image: BOXES[:0])
    with pytest.raises(ValueError, match="image 0: nothing is proposed in it"):
        none([pictures[0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(context=40, side=64), "context 40 on both edges leaves nothing of 64 pixels"),
        (dict(trunk="vgg"), "no trunk 'vgg'"),
        (dict(trunk="alexnet", norm="batch"), "'alexnet' has no norm"),
        (dict(classifier="forest"), "classifier 'forest'"),
    ],
)
def test_options_that_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.create("rcnn", num_classes=4, **options)
