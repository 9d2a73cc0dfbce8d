import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import Network, create, example, shapes

from jaxvision.explain.receptive_field import receptive_field
from jaxvision.models.segmentation.dilated import CONTEXTS, Context

RNG = np.random.default_rng(0)
NARROW = dict(widths=(4, 4, 4, 4, 4), fc=4)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_the_front_end_has_the_papers_sizes():
    """A margin of 186 on every side: 900 pixels give 66 x 66 scores, and these 528 pixels."""
    front = shapes("dilated", num_classes=21, context="none")["params"]
    vgg = 14_714_688 + (49 * 512 + 1) * 4096 + (4096 + 1) * 4096
    assert count(front) == vgg + 4097 * 21
    network = create("dilated", **{"depths": (2, 2, 3, 3, 3), "fc6_kernel": 7, "norm": "none", **NARROW})
    assert network.model.reach() == (8, 186)
    batch = {"image": np.zeros((1, 526, 500, 3), np.uint8), "image_size": np.array([[526, 500]], np.int32)}
    variables = jax.eval_shape(network.init, jax.random.key(0), batch)
    outputs = jax.eval_shape(network.model.apply, variables, batch)
    assert outputs["front_logits"].shape == (1, 66, 63, 4) and outputs["logits"].shape == (1, 526, 500, 4)
    assert outputs["c1"].shape[1] == 448 and outputs["c5"].shape[1] == 90  # of 900


@pytest.mark.parametrize(("context", "channels"), [("basic", (1,) * 8), ("large", (2, 2, 4, 8, 16, 32, 32, 1))])
def test_the_context_module_has_the_papers_size(context, channels):
    """Table 1; C is 21."""
    params = shapes("dilated", num_classes=21, context=context)["params"]["context"]
    widths = [21, *(21 * n for n in channels)]
    kernels = [9] * 7 + [1]
    assert count(params) == sum((k * i + 1) * o for k, i, o in zip(kernels, widths, widths[1:]))


@pytest.mark.parametrize("context", ["basic", "large"])
def test_the_context_module_begins_as_the_identity(context):
    scores = abs(RNG.normal(size=(1, 20, 20, 3))).astype(np.float32)  # each layer cuts at 0
    module = Context(CONTEXTS[context])
    variables = module.init(jax.random.key(0), scores)
    found = module.apply(variables, scores)
    if context == "basic":
        np.testing.assert_allclose(found, scores, atol=1e-5)
    else:  # and some noise
        assert abs(found - scores).max() < 0.5 and np.corrcoef(found.ravel(), scores.ravel())[0, 1] > 0.99
    random = Context(CONTEXTS[context], "random")
    other = random.apply(random.init(jax.random.key(0), scores), scores)
    assert abs(other - scores).mean() > 0.2


def test_a_score_of_the_context_module_sees_67_cells():
    module = Context(CONTEXTS["basic"], "random")
    scores = jnp.ones((1, 101, 101, 1))
    variables = jax.tree.map(lambda leaf: abs(leaf) + 0.1, module.init(jax.random.key(0), scores))
    gradient = jax.grad(lambda x: module.apply(variables, x)[0, 50, 50].sum())(scores)
    rows = np.flatnonzero(np.asarray(gradient)[0, :, :, 0].any(1))
    assert (rows[0], rows[-1]) == (50 - 33, 50 + 33)


def test_a_cell_lies_in_the_middle_of_what_it_sees():
    """The gradient of a score reaches as far to the left as to the right of its 8 pixels."""
    network = create("dilated", norm="none", context="none", **NARROW)
    field = receptive_field(network, "front_logits", (256, 256))
    # By hand: 3x3 convolutions at strides 1, 2, 4, 8 and, dilated, 8, and pools of two cells at 1, 2 and 4.
    assert field == (1 + 2 * (1 + 2 + 4 + 8 + 2 * 8) + (1 + 2 + 4),) * 2
    batch = {"image": jnp.ones((1, 256, 256, 3)), "image_size": np.array([[256, 256]], np.int32)}
    variables = jax.tree.map(lambda leaf: abs(leaf) + 0.01, network.init(jax.random.key(0), batch))

    @jax.jit
    @jax.grad
    def gradient(image):
        return network.model.apply(variables, {**batch, "image": image})["front_logits"][0, 16, 15].sum()

    seen = np.asarray(gradient(batch["image"]))[0].any(-1)
    for axis, cell in ((1, 16), (0, 15)):
        pixels = np.flatnonzero(seen.any(axis))
        assert pixels[0] + pixels[-1] == 2 * 8 * cell + 7


def test_a_picture_is_predicted_the_same_on_every_canvas():
    network = create("dilated", context="none")
    picture = RNG.integers(0, 256, (1, 40, 27, 3)).astype(np.uint8)
    small = {"image": picture, "image_size": np.array([[40, 27]], np.int32)}
    large = {**small, "image": np.pad(picture, ((0, 0), (0, 24), (0, 21), (0, 0)))}
    variables = network.init(jax.random.key(0), small)
    apply = jax.jit(network.model.apply)
    alone, within = (apply(variables, batch)["front_logits"] for batch in (small, large))
    np.testing.assert_allclose(within[:, :5, :4], alone, atol=1e-6)


def test_the_variant_of_the_same_size_and_unknown_options():
    network = Network("dilated", padding="same")
    outputs, _, _ = network.forward(network.variables, network.batch([example(1), example(2)]))
    assert outputs["c5"].shape[1:3] == outputs["front_logits"].shape[1:3] == (8, 8)
    for option in ("context", "context_init", "padding"):
        with pytest.raises(ValueError, match=f"{option} 'other' is not one of"):
            create("dilated", **{option: "other"})


def test_on_a_trained_front_end_the_context_module_begins_where_that_ended():
    front, whole = create("dilated"), create("dilated", context="basic")
    picture = RNG.integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    batch = {"image": picture, "image_size": np.array([[64, 64]], np.int32)}
    variables = whole.init(jax.random.key(0), batch)
    kernel = variables["params"]["score"]["kernel"]
    variables["params"]["score"] = {
        "kernel": 1000 * kernel,
        "bias": jnp.full(4, 50.0),
    }  # positive scores, as if trained
    own = {**variables, "params": {k: v for k, v in variables["params"].items() if k != "context"}}
    alone = jax.jit(front.model.apply)(own, batch)["logits"]
    together = jax.jit(whole.model.apply)(variables, batch)["logits"]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert alone.std() > 0.1
