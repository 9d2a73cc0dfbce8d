import jax
import numpy as np
import pytest
from small import SIDE, batch_of, create, example

from jaxvision import architecture as architectures
from jaxvision.explain.receptive_field import receptive_field

OPTIONS = dict(num_classes=4, widths=(4, 6), fc=8, dropout=0.0)


def perturbed(variables):
    leaves, structure = jax.tree.flatten(variables)
    noise = [np.random.default_rng(i).normal(size=leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, [np.float32(leaf + 0.1 * n) for leaf, n in zip(leaves, noise)])


@pytest.mark.parametrize("options", [{}, {"depth": 2, "kernel": 2}, {"widths": (4, 4, 4), "kernel": 1}])
def test_the_convolution_scores_every_patch_as_the_patch_alone(options):
    batch = batch_of([example(0), example(1, 40)], "segmentation", (20, 24))
    one, many = (
        architectures.create("sliding_window", **{**OPTIONS, **options}, view=v) for v in ("convolution", "patches")
    )
    variables = {"params": perturbed(one.init(jax.random.key(0), batch)["params"])}
    wanted, found = (jax.jit(a.model.apply)(variables, batch)["logits"] for a in (one, many))
    assert wanted.shape == (2, 20, 24, 4) and np.std(wanted) > 1e-2
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_a_score_sees_its_patch():
    for options, side in (({}, 18), ({"depth": 2, "kernel": 2}, 20), ({"widths": (4, 4, 4)}, 38)):
        architecture = architectures.create("sliding_window", **{**OPTIONS, **options})
        assert architecture.model.trunk.side() == side
        assert receptive_field(architecture, "logits", (96, 80)) == (side, side)
    full = architectures.create("full_resolution", num_classes=3, widths=(4,) * 5)
    assert receptive_field(full, "logits", (32, 32)) == (11, 11)


def test_training_sees_labelled_pixels_and_scores_them_as_prediction_does():
    batch = batch_of([example(0), example(1)], "segmentation")
    batch["semantic"] = batch["semantic"].copy()
    batch["semantic"][:, :, :40] = 255
    architecture = create("sliding_window", samples=50)
    variables = {"params": perturbed(architecture.init(jax.random.key(0), batch)["params"])}

    @jax.jit
    def train(key):
        outputs = architecture.model.apply(variables, batch, train=True, rngs={"sampler": key, "dropout": key})
        return outputs, architecture.losses(outputs, batch)

    outputs, losses = train(jax.random.key(0))
    other, _ = train(jax.random.key(1))
    pixels, scores = np.array(outputs["pixels"]), np.array(outputs["pixel_logits"])
    assert "logits" not in outputs and pixels.shape == (2, 50) and scores.shape == (2, 50, 4)
    assert (pixels % SIDE >= 40).all() and len(set(pixels[0])) == 50
    assert (pixels != np.array(other["pixels"])).any()
    everywhere = np.array(jax.jit(architecture.model.apply)(variables, batch)["logits"]).reshape(2, -1, 4)
    wanted = np.take_along_axis(everywhere, pixels[..., None], 1)
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    labels = np.take_along_axis(batch["semantic"].reshape(2, -1), pixels, 1)
    log = wanted - np.log(np.exp(wanted).sum(-1, keepdims=True))
    total = -np.take_along_axis(log, labels[..., None], -1).sum()
    assert (float(losses["pixel"][0]), float(losses["pixel"][1])) == pytest.approx((total, 100), rel=1e-4)


def test_pixels_without_a_label_are_no_loss_even_where_they_are_seen():
    batch = batch_of([example(0)], "segmentation")
    batch["semantic"] = np.full_like(batch["semantic"], 255)
    batch["semantic"][0, 0, :10] = 1
    architecture = create("sliding_window", samples=50)
    variables = architecture.init(jax.random.key(0), batch)
    rngs = {"sampler": jax.random.key(0), "dropout": jax.random.key(0)}
    outputs = jax.jit(lambda v: architecture.model.apply(v, batch, train=True, rngs=rngs))(variables)
    assert architecture.losses(outputs, batch)["pixel"][1] == 10


def test_more_samples_than_pixels_are_all_pixels():
    batch = batch_of([example(0, 24)], "segmentation", (6, 8))
    architecture = create("sliding_window", samples=50)
    rngs = {name: jax.random.key(0) for name in ("params", "sampler", "dropout")}
    outputs = jax.eval_shape(lambda: architecture.model.init_with_output(rngs, batch, train=True)[0])
    assert outputs["pixel_logits"].shape == (1, 48, 4) and outputs["pixels"].shape == (1, 48)


def test_fields_of_pixels_are_those_of_the_pixels_seen():
    """Overlapping labels and weights, of which the loss has one for each pixel."""
    rng, (pixels, scores) = np.random.default_rng(0), (np.array([[5, 17], [2, 9]]), np.zeros((2, 2, 3), np.float32))
    batch = {
        "semantic": rng.integers(0, 3, (2, 4, 5)).astype(np.int32),
        "semantic_labels": rng.random((2, 4, 5, 3)) < 0.5,
        "pixel_weights": rng.random((2, 4, 5)).astype(np.float32),
    }
    architecture = create("sliding_window", loss=dict(pixel="sigmoid"))
    total, count = architecture.losses({"pixel_logits": scores, "pixels": pixels}, batch)["pixel"]
    weights = np.take_along_axis(batch["pixel_weights"].reshape(2, -1), pixels, 1)
    assert count == 4 and float(total) == pytest.approx(3 * np.log(2) * weights.sum(), rel=1e-5)  # of scores of 0
    high = architecture.losses({"pixel_logits": scores + 5, "pixels": pixels}, batch)["pixel"][0]
    labels = np.stack([batch["semantic_labels"][i].reshape(-1, 3)[pixels[i]] for i in range(2)])
    wanted = (np.where(labels, np.log1p(np.exp(-5.0)), 5 + np.log1p(np.exp(-5.0))).sum(-1) * weights).sum()
    assert float(high) == pytest.approx(wanted, rel=1e-5)


def test_every_pixel_may_be_trained_on_whatever_the_view():
    batch = batch_of([example(0, 24)], "segmentation", (24, 24))
    architecture = create("sliding_window", samples=0, view="patches", dropout=0.5)
    variables = architecture.init(jax.random.key(0), batch)
    rngs = {"dropout": jax.random.key(0)}
    outputs = jax.jit(lambda v: architecture.model.apply(v, batch, train=True, rngs=rngs))(variables)
    assert outputs["logits"].shape == (1, 24, 24, 4) and "pixels" not in outputs


def test_another_view_is_an_error():
    with pytest.raises(ValueError, match='view \'window\' is not "convolution" or "patches"'):
        architectures.create("sliding_window", num_classes=2, view="window")
