"""What all classifiers learn from, by the option `loss`, against plain loops; and what they say of several classes."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import CLASSIFIERS, batch_of, create, example

from jaxvision import architecture as architectures
from jaxvision.models.backbones.classification import ONE, SEVERAL, classification_losses, classifier
from jaxvision.train.state import TrainState
from jaxvision.train.step import train_step

RNG = np.random.default_rng(0)
LOGITS = (2 * RNG.normal(size=(6, 4))).astype(np.float32)
LABEL = RNG.integers(0, 4, 6)
LABELS = RNG.random((6, 4)) < 0.4


def slow(loss, scores, labels):
    """The loss of one image; labels (K,) bool, of which one holds where the loss compares classes."""
    scores = scores.astype(np.float64)
    p = 1 / (1 + np.exp(-scores))
    if loss == "softmax":
        return -np.log(np.exp(scores[labels.argmax()]) / np.exp(scores).sum())
    if loss == "sigmoid":
        return -sum(np.log(p[k]) if labels[k] else np.log(1 - p[k]) for k in range(len(scores)))
    if loss == "one_against_rest":
        return sum(max(0, 1 - s) if y else max(0, 1 + s) for s, y in zip(scores, labels))
    margins = [max(0, 1 + s - scores[labels.argmax()]) for s, y in zip(scores, labels) if not y]
    return sum(margins) if loss == "hinge" else max(margins)


@pytest.mark.parametrize("loss", ONE)
def test_of_one_label(loss):
    real = np.array([1, 1, 0, 1, 1, 1], bool)
    outputs = {"logits": LOGITS, "aux1_logits": -LOGITS}
    terms = classification_losses(outputs, {"label": LABEL, "real": real}, loss)
    assert set(terms) == {"class", "aux1"}
    one_hot = np.eye(4, dtype=bool)[LABEL]
    for name, sign in (("class", 1), ("aux1", -1)):
        wanted = sum(slow(loss, sign * s, y) for s, y, r in zip(LOGITS, one_hot, real) if r)
        assert float(terms[name][0]) == pytest.approx(wanted, rel=1e-5) and terms[name][1] == 5


@pytest.mark.parametrize("loss", SEVERAL)
def test_of_several_labels(loss):
    [(total, count)] = classification_losses({"logits": LOGITS}, {"labels": LABELS}, loss, multi_label=True).values()
    rule = {"hinge": "one_against_rest"}.get(loss, loss)
    assert float(total) == pytest.approx(sum(slow(rule, s, y) for s, y in zip(LOGITS, LABELS)), rel=1e-5)
    assert count == 6


@pytest.mark.parametrize(
    ("loss", "multi_label"), [*((loss, False) for loss in ONE), *((loss, True) for loss in SEVERAL)]
)
def test_mixed_pictures_are_of_both_labels(loss, multi_label):
    mix = RNG.random(6).astype(np.float32)
    name, own = ("labels", LABELS) if multi_label else ("label", LABEL)
    other = own[::-1].copy()
    batch = {name: own, f"other_{name}": other, "mix": mix}
    [(found, _)] = classification_losses({"logits": LOGITS}, batch, loss, multi_label).values()
    wanted = 0
    for row in range(6):
        for labels, share in ((own, mix[row]), (other, 1 - mix[row])):
            alone = {name: labels[row : row + 1]}
            [(total, _)] = classification_losses({"logits": LOGITS[row : row + 1]}, alone, loss, multi_label).values()
            wanted += share * float(total)
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_rows_that_are_not_real_reach_neither_value_nor_gradient():
    logits = LOGITS.copy()
    logits[1] = np.nan
    batch = {"label": LABEL, "real": np.arange(6) != 1}
    for loss in ONE:
        value, gradient = jax.value_and_grad(
            lambda x, loss=loss: classification_losses({"logits": x}, batch, loss)["class"][0]
        )(jnp.array(logits))
        assert np.isfinite(value) and np.isfinite(gradient).all() and not gradient[1].any() and gradient.any(), loss


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_has_the_options(name):
    module, function = architectures.REGISTRY[name].split(":")
    parameters = inspect.signature(getattr(__import__(module, fromlist=[function]), function)).parameters
    assert parameters["loss"].default is None and parameters["multi_label"].default is False
    for loss in (None, *ONE):
        assert create(name, loss=loss).task == ("map_localization" if name in ("acol", "cam") else "classification")
    several = create(name, multi_label=True)
    losses = several.losses.keywords.get("classes", several.losses)  # ACoL's are those of its two heads
    assert several.task == "multi_label" and losses.keywords["loss"] == "sigmoid"
    with pytest.raises(ValueError, match="loss 'softmax' is not one of those of several labels: sigmoid, hinge"):
        create(name, multi_label=True, loss="softmax")
    with pytest.raises(ValueError, match="loss 'hinges' is not one of those of one label: softmax, sigmoid, hinge"):
        create(name, loss="hinges")


def test_probabilities_are_of_the_losss_kind():
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    sigmoid = 1 / (1 + np.exp(-LOGITS))
    kinds = {
        "softmax": softmax,
        "sigmoid": sigmoid,
        "hinge": softmax,
        "crammer_singer": softmax,
        "one_against_rest": sigmoid,
    }
    for loss, wanted in kinds.items():
        found = classifier("a", None, loss).predict({"logits": LOGITS}, {})["probabilities"]
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for loss in SEVERAL:
        found = classifier("a", None, loss, multi_label=True).predict({"logits": LOGITS}, {})["probabilities"]
        np.testing.assert_allclose(found, sigmoid, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "multi_label"), [("hinge", False), ("one_against_rest", False), ("hinge", True), ("sigmoid", True)]
)
def test_learns_two_pictures_by_heart(loss, multi_label):
    architecture = create("resnet", loss=loss, multi_label=multi_label)
    pictures = [{**example(n), "labels": np.isin(np.arange(1, 4), example(n)["classes"])} for n in (0, 4)]
    batch = batch_of(pictures, architecture.task)
    optimizer = optax.adam(5e-3)
    step = jax.jit(functools.partial(train_step, architecture=architecture, optimizer=optimizer))
    state = TrainState.create(architecture.init(jax.random.key(0), batch), optimizer)
    for _ in range(40):
        state, metrics = step(state, batch)
    assert metrics["loss"] < 0.3
    found = architecture.predict(architecture.model.apply(state.variables(), batch), batch)["probabilities"]
    if multi_label:
        np.testing.assert_array_equal(found > 0.5, batch["labels"])
    else:
        np.testing.assert_array_equal(found.argmax(1), batch["label"])


def test_googlenet_without_its_auxiliary_heads_has_no_weights_of_them():
    architecture = create("googlenet", aux=False)
    assert architecture.weights == {} and create("googlenet").weights == {"aux1": 0.3, "aux2": 0.3}
