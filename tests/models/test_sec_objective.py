"""SEC as a segmenter's objective: its terms from what a batch holds, on a map of cells."""

import dataclasses

import jax
import numpy as np
import pytest
from small import create

from jaxvision.losses import sec
from jaxvision.models.segmentation.objective import objective
from jaxvision.ops.crf import PRESETS, choose, mean_field
from jaxvision.ops.resize import resize
from jaxvision.train.step import weigh

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 8, 12, 4)).astype(np.float32)
SEMANTIC = np.where(RNG.random((3, 8, 12)) < 0.7, 255, RNG.integers(0, 3, (3, 8, 12))).astype(np.int32)
BATCH = {
    "image": RNG.integers(0, 256, (3, 8, 12, 3)).astype(np.uint8),
    "image_size": np.array([[8, 12], [8, 8], [8, 12]], np.int32),
    "semantic": SEMANTIC,
    "real": np.array([True, True, False]),
}
DECAYS = dict(foreground=0.9, background=0.95, absent=0.1)
CRF = dict(preset="sec", bilateral_xy=6.0, gaussian_xy=2.0, iterations=2)


def losses(**options):
    found = jax.jit(objective({"sec": {"method": "exact", **options}}))({"logits": LOGITS}, BATCH)
    return {name: tuple(map(float, term)) for name, term in found.items()}


def by_hand(cells, seeds, logits, image, shrink):
    """The terms of maps that are there already."""
    covered = np.ones((3, *cells), bool)
    covered[1, :, cells[1] * 8 // 12 :] = False
    present = np.stack([(s[c][:, None] == np.arange(4)).any(0) for s, c in zip(seeds, covered)])
    settings = dataclasses.replace(choose(CRF), bilateral_xy=6 * shrink, gaussian_xy=2 * shrink)
    refined = np.stack(
        [np.array(mean_field(*maps[:2], settings, maps[2], "exact")) for maps in zip(logits, image, covered)]
    )
    terms = {
        "seed": sec.seed(logits, np.where(covered, seeds, 255), BATCH["real"]),
        "expand": sec.expand(logits, present, BATCH["real"], covered, **DECAYS),
        "constrain": sec.constrain(logits, refined, BATCH["real"], covered),
    }
    return {name: pytest.approx(tuple(map(float, term)), rel=1e-4) for name, term in terms.items()}


def test_the_terms_at_full_size():
    wanted = by_hand((8, 12), SEMANTIC, LOGITS, BATCH["image"].astype(np.float32), 1)
    assert losses(cells=(8, 12), crf=CRF, **DECAYS) == wanted


def test_the_terms_on_cells():
    """Seeds are those at the centres, and the CRF's deviations shrink with the map."""
    shrunk = [np.array(resize(x.astype(np.float32), (4, 6), antialias=True)) for x in (LOGITS, BATCH["image"])]
    seeds = SEMANTIC[:, 1::2, 1::2]
    assert losses(cells=(4, 6), crf=CRF, **DECAYS) == by_hand((4, 6), seeds, *shrunk, 0.5)


def test_nothing_else_is_learnt_from_and_the_terms_can_be_weighed():
    architecture = create("full_resolution", loss={"sec": {"cells": 4}})
    weighed = architecture.with_weights({"constrain": 0.5})
    assert losses(cells=4).keys() == {"seed", "expand", "constrain"} and weighed.weights == {"constrain": 0.5}


def test_a_second_head_learns_nothing_and_weighs_nothing():
    """DeepLabv3's has a weight in its own loss, which sec does not have."""
    architecture = create("deeplabv3", aux=True, loss={"sec": {"cells": 4}})
    _, means = weigh(architecture.losses({"logits": LOGITS, "aux_logits": LOGITS}, BATCH), architecture.weights)
    assert means.keys() == {"seed", "expand", "constrain"}


def test_options_of_sec_that_cannot_be_meant():
    for options, match in (
        ({"sec": {"cell": 3}}, "sec has no option 'cell'; did you mean \"cells\""),
        ({"sec": {}, "hard": 0.5}, "sec takes the place of all others; leave out hard"),
        ({"sec": {"foreground": 1.5}}, "sec's foreground is 1.5"),
        ({"sec": {"method": "quick"}}, "sec's method 'quick' is not one of fast, exact"),
        ({"sec": {"crf": "densecrf"}}, "no preset 'densecrf' of a CRF; there are pydensecrf"),
        ({"sec": {"crf": {"width": 3}}}, "no setting 'width'; there are preset, bilateral_weight"),
    ):
        with pytest.raises(ValueError, match=match):
            objective(options)


def test_settings_are_chosen_by_a_presets_name_or_field_by_field():
    assert choose("sec") == PRESETS["sec"] and choose({}) == PRESETS["pydensecrf"]
    assert choose({"preset": "deeplab_vgg", "iterations": 3}) == dataclasses.replace(
        PRESETS["deeplab_vgg"], iterations=3
    )
