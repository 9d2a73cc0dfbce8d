"""What is erased, what the gradient sees of it, and the size as published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, Network, create
from test_parameter_counts import VGG16, size

from jaxvision import architecture as architectures
from jaxvision.batch import blank


@pytest.fixture(scope="module")
def network():
    return Network("acol")


def unit(plane):
    """A map (h, w) in 0..1, in plain Python."""
    low, high = min(map(min, plane.tolist())), max(map(max, plane.tolist()))
    return np.array([[(v - low) / (high - low) for v in row] for row in plane.tolist()])


def trained(network, batch, params, branches="erased"):
    """Outputs as in training."""
    model = network.architecture.model.clone(branches=branches)

    def apply(params):
        variables = {**network.variables, "params": params}
        return model.apply(variables, batch, train=True, rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"])[
            0
        ]

    return jax.jit(apply)(params)


def test_the_second_head_sees_the_feature_without_what_the_first_found(network):
    batch = {**network.batch(network.pictures), "label": np.array([2, 0], np.int32)}
    seen = {}
    for train in (False, True):
        if train:
            outputs = trained(network, batch, network.variables["params"])
        else:
            outputs = network.forward(network.variables, batch)[0]
        labels = batch["label"] if train else np.asarray(outputs["logits"]).argmax(1)
        first, second = np.asarray(outputs["first_maps"]), np.asarray(outputs["second_maps"])
        for i, label in enumerate(labels):
            erased = unit(first[i, ..., label]) >= 0.6
            np.testing.assert_array_equal(outputs["erased"][i], erased)
            assert 0 < erased.mean() < 1
            for k in range(3):
                fused = np.maximum(unit(first[i, ..., k]), unit(second[i, ..., k]))
                np.testing.assert_allclose(outputs["class_maps"][i, ..., k], fused, atol=1e-5)
        np.testing.assert_allclose(outputs["logits"], first.mean((1, 2)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(outputs["second_logits"], second.mean((1, 2)), rtol=1e-4, atol=1e-5)
        seen[train] = outputs
    assert (np.asarray(seen[False]["erased"]) != np.asarray(seen[True]["erased"])).any()
    # The second head alone, on the shared feature with zeros.
    head = network.variables["params"]["second"]
    x = np.where(np.asarray(seen[False]["erased"])[..., None], 0, np.asarray(seen[False]["shared"], np.float64))
    stats = network.variables["batch_stats"]["second"]
    for i in range(2):
        x = convolve(x, np.asarray(head[f"conv{i}"]["kernel"], np.float64))
        norm, kept = head[f"conv{i}_norm"]["norm"], stats[f"conv{i}_norm"]["norm"]
        x = (x - kept["mean"]) / np.sqrt(np.asarray(kept["var"], np.float64) + 1e-5) * norm["scale"] + norm["bias"]
        x = np.maximum(x, 0)
    expected = x @ np.asarray(head["score"]["kernel"], np.float64)[0, 0] + head["score"]["bias"]
    np.testing.assert_allclose(seen[False]["second_maps"], expected, rtol=1e-3, atol=1e-4)


def convolve(x, kernel):
    """3x3 with zeros around."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))


def test_no_gradient_passes_through_the_mask(network):
    """Of the second head's loss: none for the first head, and for the trunk that of a mask which is given."""
    batch = network.batch(network.pictures)

    @jax.jit
    def gradient(params):
        def second(params):
            outputs = trained(network, batch, params)
            return outputs["second_logits"][:, 0].sum() ** 2, outputs

        (_, outputs), found = jax.value_and_grad(second, has_aux=True)(params)
        return found, outputs["erased"]

    found, erased = gradient(network.variables["params"])
    assert erased.any()
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(found["first"]))
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found["trunk"])) > 0


def test_controls(network):
    batch = network.batch(network.pictures)
    params = network.variables["params"]
    whole, plain, one = (trained(network, batch, params, branches) for branches in ("erased", "plain", "one"))
    assert not plain["erased"].any() and whole["erased"].any()
    np.testing.assert_allclose(plain["first_maps"], whole["first_maps"], atol=1e-5)
    assert np.abs(np.asarray(plain["second_maps"]) - np.asarray(whole["second_maps"])).max() > 1e-4
    assert "second_maps" not in one
    first = np.asarray(one["first_maps"])
    np.testing.assert_allclose(one["class_maps"][0, ..., 1], unit(first[0, ..., 1]), atol=1e-5)
    assert set(network.architecture.losses(one, batch)) == {"class"}
    assert set(network.architecture.losses(plain, batch)) == {"class", "second"}
    alone = create("acol", branches="one")
    params = jax.eval_shape(alone.init, jax.random.key(0), batch)["params"]
    assert set(params) == {"trunk", "first"}


def test_a_map_that_is_flat_erases_nothing_and_stays_finite(network):
    batch = network.batch(network.pictures)
    params = {**network.variables["params"]}
    params["first"] = {**params["first"], "score": jax.tree.map(np.zeros_like, params["first"]["score"])}
    outputs, _, predictions = network.forward({**network.variables, "params": params}, batch)
    assert not outputs["erased"].any() and np.isfinite(predictions["class_maps"]).all()


def test_vgg16_as_published_has_its_size_and_28_cells_a_side():
    acol = architectures.create("acol", num_classes=200)
    batch = blank(("label",), (224, 224))
    params = jax.eval_shape(acol.init, jax.random.key(0), batch)
    maps = jax.eval_shape(acol.model.apply, params, batch)
    assert maps["class_maps"].shape == (1, 28, 28, 200) and maps["c3"].shape == (1, 28, 28, 256)
    head = (9 * 512 + 1) * 1024 + (9 * 1024 + 1) * 1024 + 1025 * 200
    assert size(params["params"]) == sum((9 * i + 1) * o for i, o in VGG16) + 2 * head == 43_440_336
    googlenet = architectures.create("acol", num_classes=200, backbone="googlenet")
    params = jax.eval_shape(googlenet.init, jax.random.key(0), batch)
    assert jax.eval_shape(googlenet.model.apply, params, batch)["class_maps"].shape == (1, 14, 14, 200)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(branches="three"), "branches 'three' is not one of erased, plain, one"),
        (dict(delta=0), r"delta is 0; it is a share of 0\.\.1"),
        (dict(delta=1.5), "delta is 1.5"),
        (dict(backbone="vgg17"), "no backbone 'vgg17'"),
    ],
)
def test_what_there_is_not_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        architectures.create("acol", **{"num_classes": 3, **SMALL["acol"], **changes})
