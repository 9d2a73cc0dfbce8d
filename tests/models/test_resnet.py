import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import batch_of, create, example

from jaxvision.models.backbones.resnet import trunk

TINY = {"depths": (1, 2, 1, 1), "widths": (4, 4, 8, 8), "stem_width": 4}


@pytest.mark.parametrize(("name", "channels"), [("resnet18", (4, 4, 8, 8)), ("resnet50", (16, 16, 32, 32))])
@pytest.mark.parametrize("stem", ["pool", "stride"])
def test_maps_and_their_strides(name, channels, stem):
    x = np.zeros((1, 64, 96, 3), np.float32)
    maps, variables = jax.eval_shape(lambda: trunk(name, stem=stem, **TINY).init_with_output(jax.random.key(0), x))
    assert {k: v.shape for k, v in maps.items()} == {
        "c1": (1, 32, 48, 4),
        **{f"c{i}": (1, 64 >> i, 96 >> i, c) for i, c in zip(range(2, 6), channels)},
    }
    convs = variables["params"]["c3_block0"]
    kernels = [convs[f"conv{i}"]["kernel"].shape[0] for i in range(1, 2 + (1 if name == "resnet18" else 2))]
    assert kernels == ([3, 3] if name == "resnet18" else [1, 3, 1])
    assert "shortcut" in convs and "shortcut" not in variables["params"]["c3_block1"]
    assert "bias" not in convs["conv1"]  # the norm's does


def test_a_bottlenecks_stride_is_in_its_3x3_convolution():
    """torchvision's v1.5: the first 1x1 sees every cell. With its stride there, odd cells would reach nothing."""
    x = np.zeros((1, 64, 64, 3), np.float32)
    model = trunk("resnet50", **{**TINY, "norm": "none"})
    variables = jax.jit(model.init)(jax.random.key(0), x)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), dict(variables["perturbations"]))

    @jax.jit
    @jax.grad
    def reach(perturbations):
        biased = jax.tree.map(lambda leaf: leaf + 0.1, variables["params"])
        out = model.apply({"params": biased, "perturbations": perturbations}, x)
        return out["c3"][:, 2, 2].sum()

    gradient = np.abs(reach(zeros)["c2"][0]).sum(-1)
    assert (gradient > 0).sum() > 1  # the shortcut alone would see one cell
    assert gradient[1::2].sum() > 0


def test_a_dilated_trunk_computes_what_lies_between_the_cells():
    """Dilation in place of stride: the cells of the strided trunk are among its own, unchanged."""
    x = np.random.default_rng(0).normal(size=(1, 72, 104, 3)).astype(np.float32)
    options = {**TINY, "depths": (1, 1, 2, 2), "widths": (4, 6, 8, 12)}
    strided = trunk("resnet50", **options)
    variables = jax.jit(strided.init)(jax.random.key(0), x)
    variables = {name: variables[name] for name in ("params", "batch_stats")}
    expected = jax.jit(strided.apply)(variables, x)
    maps = jax.jit(trunk("resnet50", dilated=(False, True, True), **options).apply)(variables, x)
    for level, step in (("c3", 1), ("c4", 2), ("c5", 4)):
        assert maps[level].shape[1:3] == (9, 13)
        np.testing.assert_allclose(maps[level][:, ::step, ::step], expected[level], rtol=1e-4, atol=1e-4)


def test_grouped_and_wide_bottlenecks():
    x = np.zeros((1, 64, 64, 3), np.float32)
    options = {"depths": (1, 1, 1, 1), "widths": (16, 32, 64, 128)}
    for name, inner, inputs in (("resnext50_32x4d", 64, 2), ("wide_resnet50_2", 64, 64)):
        variables = jax.eval_shape(lambda name=name: trunk(name, **options).init(jax.random.key(0), x))
        block = variables["params"]["c3_block0"]
        assert block["conv2"]["kernel"].shape == (3, 3, inputs, inner)
        assert block["conv3"]["kernel"].shape == (1, 1, inner, 128)
    for option in ({"groups": 2}, {"width_per_group": 4}, {"dilated": (False, False, True)}):
        with pytest.raises(ValueError, match='are of "bottleneck" blocks'):
            trunk("resnet18", **option).init(jax.random.key(0), x)


def test_remat_and_bfloat16_change_no_variable_and_little_else():
    batch = batch_of([example(0), example(1)], "classification")
    plain, remat, half = create("resnet"), create("resnet", remat=True), create("resnet", dtype="bfloat16")
    variables = plain.init(jax.random.key(0), batch)
    for other in (remat, half):
        same = other.init(jax.random.key(0), batch)
        jax.tree.map(np.testing.assert_array_equal, same, variables)

    def gradient(architecture):
        def loss(params):
            outputs, _ = architecture.model.apply(
                {**variables, "params": params}, batch, train=True, mutable=["batch_stats"]
            )
            return architecture.losses(outputs, batch)["class"][0]

        return jax.jit(jax.grad(loss))(variables["params"])

    def close(a, b):
        np.testing.assert_allclose(a, b, atol=1e-3 * np.abs(b).max())

    jax.tree.map(close, gradient(remat), gradient(plain))
    outputs, low = (jax.jit(architecture.model.apply)(variables, batch) for architecture in (plain, half))
    assert low["c5"].dtype == jnp.bfloat16 and low["logits"].dtype == jnp.float32
    np.testing.assert_allclose(low["logits"], outputs["logits"], atol=0.1)


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="no trunk 'resnet51'; known: resnet18, resnet34"):
        create("resnet", trunk_name="resnet51")
    with pytest.raises(ValueError, match="stem 'none' is not one of"):
        trunk("resnet18", stem="none").init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
