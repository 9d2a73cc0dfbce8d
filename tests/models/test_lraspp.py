import jax
import numpy as np
import pytest
from small import batch_of, create, example
from test_parameter_counts import size

from jaxvision import architecture as architectures
from jaxvision.interop.convert import abstract
from jaxvision.ops.resize import resize


def test_scores_upsampled_are_the_scores_of_upsampled_features():
    """As the paper and torchvision have it: the gated features go to the finer map, are scored there, and are added."""
    architecture = create("lraspp", norm="none")
    batch = batch_of([example(0), example(1)], "segmentation")
    variables = architecture.init(jax.random.key(0), batch)
    outputs = jax.jit(architecture.model.apply)(variables, batch)
    params = jax.tree.map(np.asarray, variables["params"])
    low, high = (np.asarray(outputs[name]) for name in ("c3", "final"))

    def score(name, x):
        return x @ params[name]["kernel"][0, 0] + params[name].get("bias", 0)

    gate = 1 / (1 + np.exp(-score("gate", high.mean((1, 2), keepdims=True))))
    features = resize(np.maximum(score("conv", high), 0) * gate, low.shape[1:3])
    expected = resize(score("high", features) + score("low", low), (64, 64))
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-4 * np.abs(expected).max())


def test_the_head_is_the_published_one():
    params = abstract(architectures.create("lraspp", num_classes=21))["params"]
    assert params["conv"]["kernel"].shape == params["gate"]["kernel"].shape == (1, 1, 960, 128)
    assert size({name: params[name] for name in ("low", "high")}) == (40 + 1) * 21 + (128 + 1) * 21
    assert "bias" not in params["gate"] and "bias" not in params["conv"]


def test_another_trunk_is_an_error():
    with pytest.raises(ValueError, match="built on a MobileNetV3, not on 'resnet50'"):
        create("lraspp", backbone="resnet50")
