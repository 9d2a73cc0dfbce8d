import jax
import numpy as np
import pytest
from small import batch_of, create, example, kept_and_dropped, shapes

from jaxvision.models.backbones.nin import BLOCKS, NIN


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_it_has_the_published_forms_size():
    """CIFAR-10's form, layer by layer, and ImageNet's."""
    layers = [(25, 3, 192), (1, 192, 160), (1, 160, 96), (25, 96, 192), (1, 192, 192), (1, 192, 192)]
    layers += [(9, 192, 192), (1, 192, 192), (1, 192, 10)]
    params = shapes("nin", canvas=(32, 32), num_classes=10)["params"]
    assert size(params) == sum(k * i * o + o for k, i, o in layers) == 966_986
    params = shapes("nin", canvas=(224, 224), num_classes=1000, trunk_name="imagenet")["params"]
    assert size(params) == 7_595_176


def test_maps_are_those_of_the_paper():
    def maps(name, side):
        x = np.zeros((1, side, side, 3), np.float32)
        found, _ = jax.eval_shape(lambda: NIN(BLOCKS[name]).init_with_output(jax.random.key(0), x))
        return {key: value.shape[1:] for key, value in found.items()}

    assert maps("cifar", 32) == {"c1": (32, 32, 96), "c2": (16, 16, 192), "c3": (8, 8, 192)}
    assert maps("imagenet", 224) == {"c1": (54, 54, 96), "c2": (27, 27, 256), "c3": (13, 13, 384), "c4": (6, 6, 1024)}


def test_scores_are_means_of_rectified_maps_of_the_classes():
    architecture = create("nin")
    batch = batch_of([example(0), example(1)], "classification")
    variables = architecture.init(jax.random.key(0), batch)
    head = {"kernel": jax.random.normal(jax.random.key(1), (1, 1, 16, 3)), "bias": np.array([0.1, -0.1, 0.0])}
    variables = {"params": {**variables["params"], "head": head}}
    outputs = architecture.model.apply(variables, batch)
    wanted = np.maximum(np.array(outputs["c3"]) @ np.array(head["kernel"][0, 0]) + head["bias"], 0)
    np.testing.assert_allclose(outputs["class_maps"], wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["logits"], wanted.mean((1, 2)), rtol=1e-4, atol=1e-5)
    assert (wanted == 0).any() and (wanted > 0).any()
    linear = create("nin", relu=False).model.apply(variables, batch)
    assert (np.array(linear["class_maps"]) < 0).any()
    np.testing.assert_allclose(linear["logits"], np.array(linear["class_maps"]).mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_dropout_is_between_the_blocks():
    """Where everything is dropped, the second block sees nothing but its own biases; the first sees the image."""
    architecture = create("nin", dropout=1.0)
    batch = batch_of([example(0)], "classification")
    variables = architecture.init(jax.random.key(0), batch)
    kept, dropped = kept_and_dropped(architecture, variables, batch)
    np.testing.assert_array_equal(kept["c1"], dropped["c1"])
    assert np.array(kept["c2"]).any() and not np.array(dropped["c2"]).any() and not np.array(dropped["c3"]).any()


def test_an_unknown_form_is_named():
    with pytest.raises(ValueError, match="There is no trunk 'mnist'; known: cifar, imagenet"):
        create("nin", trunk_name="mnist")
