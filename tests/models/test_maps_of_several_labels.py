"""CAM and ACoL of images that may have several classes: losses, predictions, and what is erased."""

import jax
import numpy as np
import pytest
from small import batch_of, create, example

LABELS = np.array([[True, False, True], [False, False, False]])


@pytest.fixture(scope="module", params=["cam", "acol"])
def seen(request):
    """(architecture, variables, batch, outputs and updates as in training, outputs as in evaluation)."""
    architecture = create(request.param, multi_label=True)
    pictures = [{**example(n), "labels": labels} for n, labels in zip((0, 4), LABELS)]
    batch = batch_of(pictures, architecture.task)
    variables = architecture.init(jax.random.key(0), batch)
    rngs = {"dropout": jax.random.key(0), "sampler": jax.random.key(1)}
    train = jax.jit(lambda v: architecture.model.apply(v, batch, train=True, rngs=rngs, mutable=["batch_stats"])[0])
    test = jax.jit(lambda v: architecture.model.apply(v, batch))
    return architecture, batch, *({k: np.asarray(x) for k, x in f(variables).items()} for f in (train, test))


def entropy(logits):
    """Of each image, the binary ones of all classes added up."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -np.log(np.where(LABELS, p, 1 - p)).sum(1)


def test_each_head_learns_every_class(seen):
    architecture, batch, outputs, _ = seen
    assert architecture.task == "multi_label"
    terms = architecture.losses(outputs, batch)
    heads = {"class": "logits"} | ({"second": "second_logits"} if "second_logits" in outputs else {})
    assert terms.keys() == heads.keys() and len(terms) == (2 if architecture.name == "acol" else 1)
    for term, head in heads.items():
        assert float(terms[term][0]) == pytest.approx(entropy(outputs[head]).sum(), rel=1e-4) and terms[term][1] == 2


def test_predictions_are_sigmoids_beside_the_maps(seen):
    architecture, batch, _, outputs = seen
    found = architecture.predict(outputs, batch)
    np.testing.assert_allclose(found["probabilities"], 1 / (1 + np.exp(-outputs["logits"])), rtol=1e-5)
    np.testing.assert_array_equal(found["class_maps"], outputs["class_maps"])


def test_what_any_class_of_the_image_shows_is_erased(seen):
    architecture, _, *both = seen
    if architecture.name == "cam":
        assert "erased" not in both[0]
        return
    for outputs, train in zip(both, (True, False)):
        first = outputs["first_maps"]
        for i in range(2):
            likely = outputs["logits"][i] > 0
            likely[outputs["logits"][i].argmax()] = True
            erased = np.zeros(first.shape[1:3], bool)
            for k in np.flatnonzero(LABELS[i] if train else likely):
                low, high = first[i, ..., k].min(), first[i, ..., k].max()
                erased |= (first[i, ..., k] - low) / (high - low) >= 0.6
            np.testing.assert_array_equal(outputs["erased"][i], erased)
    assert both[0]["erased"][0].any() and not both[0]["erased"][1].any()  # the second has no class
