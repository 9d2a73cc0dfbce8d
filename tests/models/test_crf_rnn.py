import dataclasses

import jax
import numpy as np
import pytest
from small import batch_of, create, example

from jaxvision import architecture as architectures
from jaxvision.ops.crf import PRESETS, mean_field


def test_logits_are_the_bases_refined_on_the_picture():
    architecture = create("crf_rnn")
    batch = batch_of([example(0), example(1)], "segmentation")
    variables = architecture.init(jax.random.key(0), batch)
    variables["params"] = jax.tree.map(lambda leaf: leaf + 0.05, variables["params"])
    outputs = jax.jit(architecture.model.apply)(variables, batch)
    settings = dataclasses.replace(PRESETS["crf_rnn"], **variables["params"]["crf"])

    @jax.jit
    def refined(logits, image):
        return mean_field(logits, image, settings, method="exact")

    for i in range(2):
        wanted = refined(outputs["unary_logits"][i], batch["image"][i].astype(np.float32))
        np.testing.assert_allclose(outputs["logits"][i], wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())
    floats = {**batch, "image": batch["image"].astype(np.float32) / 255}
    same = jax.jit(architecture.model.apply)(variables, floats)["logits"]
    np.testing.assert_allclose(same, outputs["logits"], rtol=0, atol=1e-3 * np.abs(same).max())


def test_gradients_reach_the_base_and_the_crf():
    architecture = create("crf_rnn")
    batch = batch_of([example(0)], "segmentation")
    variables = architecture.init(jax.random.key(0), batch)

    @jax.jit
    @jax.grad
    def gradient(params):
        rest = {name: value for name, value in variables.items() if name != "params"}
        outputs = architecture.model.apply({"params": params, **rest}, batch)
        total, count = architecture.losses(outputs, batch)["pixel"]
        return total / count

    found = gradient(variables["params"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert np.abs(found["base"]["conv1"]["kernel"]).max() > 0
    for name in ("bilateral_weight", "gaussian_weight", "compatibility"):
        assert np.abs(found["crf"][name]).max() > 0, name


def test_a_base_that_is_no_segmenter_and_other_mistakes_are_errors():
    for options, match in (
        ({"base": {"name": "resnet"}}, "The base of a CRF is a segmenter; resnet is for classification"),
        ({"base": {"widths": (4,)}}, "needs the name of its architecture"),
        ({"base": {"name": "unet", "loss": {"pixel": "focal"}}}, "give `loss` to crf_rnn"),
        ({"preset": "deeplab"}, "no preset 'deeplab'; did you mean"),
        ({"method": "slow"}, "method 'slow' is not one of fast, exact"),
        ({"base": {"name": "fcn8s", "depht": 3}}, "no option 'depht'"),
    ):
        with pytest.raises(ValueError, match=match):
            architectures.create("crf_rnn", num_classes=3, **options)


def test_a_base_that_scores_some_pixels_alone_cannot_be_refined():
    architecture = create("crf_rnn", base=dict(name="sliding_window", widths=(4,), fc=8, samples=9))
    batch = batch_of([example(0)], "segmentation")
    variables = jax.eval_shape(architecture.init, jax.random.key(0), batch)
    rngs = {"sampler": jax.random.key(0), "dropout": jax.random.key(0)}
    with pytest.raises(ValueError, match="set samples=0"):
        jax.eval_shape(lambda v: architecture.model.apply(v, batch, train=True, rngs=rngs), variables)
