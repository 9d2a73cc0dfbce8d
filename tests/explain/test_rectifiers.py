import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxvision.explain.rectifiers import with_rule

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(size=(4, 6)).astype(np.float32), RNG.normal(size=(6, 5)).astype(np.float32)
LAST, X = RNG.normal(size=5).astype(np.float32), RNG.normal(size=4).astype(np.float32)


def by_hand(rule, slope=0.0):
    """What comes back through two layers and their ReLUs, neuron by neuron. slope: of a closed ReLU, which may leak."""
    signal, before = LAST.astype(np.float64), [X @ FIRST]
    before.append(np.where(before[0] > 0, before[0], slope * before[0]) @ SECOND)
    for weights, values in zip((SECOND, FIRST), before[::-1]):
        for n, value in enumerate(values):
            if rule in ("deconvnet", "guided"):
                signal[n] = max(signal[n], 0)
            if rule in ("gradient", "guided"):
                signal[n] *= 1 if value > 0 else slope
        signal = weights @ signal
    return signal


def network(relu):
    return lambda x: LAST @ relu(relu(x @ FIRST) @ SECOND)


RELUS = {
    "nn.relu": nn.relu,
    "maximum": lambda x: jnp.maximum(x, 0),
    "maximum, turned": lambda x: jnp.maximum(0.0, x),
    "relu6": lambda x: nn.relu6(x / 100) * 100,  # below its ceiling
    "jit": jax.jit(nn.relu),
    "remat": jax.checkpoint(nn.relu),
}


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
def test_the_three_rules_are_told_apart_on_two_layers(relu):
    found = {}
    for rule in ("gradient", "deconvnet", "guided"):
        value, found[rule] = jax.value_and_grad(with_rule(network(relu), rule))(X)
        np.testing.assert_allclose(value, network(nn.relu)(X), rtol=1e-5)
        np.testing.assert_allclose(found[rule], by_hand(rule), rtol=1e-4, atol=1e-5)
    for one, other in (("gradient", "deconvnet"), ("gradient", "guided"), ("deconvnet", "guided")):
        assert np.abs(found[one] - found[other]).max() > 0.1
    np.testing.assert_allclose(found["gradient"], jax.grad(network(nn.relu))(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["gradient", "deconvnet", "guided"])
def test_what_leaks_has_its_slope(rule):
    leaky = network(lambda x: nn.leaky_relu(x, 0.1))
    np.testing.assert_allclose(jax.grad(with_rule(leaky, rule))(X), by_hand(rule, 0.1), rtol=1e-4, atol=1e-5)


def test_gates_and_softmax_keep_their_gradients():
    def gated(x, relu=nn.relu):
        return (nn.softmax(nn.hard_swish(relu(x) @ FIRST)) * nn.hard_sigmoid(x @ FIRST)).sum() + nn.sigmoid(x).sum()

    x = jnp.abs(X)  # an open ReLU at the very front, behind which everything is the gradient
    signal = jax.grad(lambda y: gated(y, relu=lambda y: y))
    inner, outer = jax.grad(lambda y: gated(y)), jax.grad(with_rule(gated, "guided"))
    np.testing.assert_allclose(inner(x), signal(x), rtol=1e-5)
    through = jax.grad(lambda y: nn.softmax(nn.hard_swish(y @ FIRST)) @ jax.nn.hard_sigmoid(x @ FIRST))(x)
    np.testing.assert_allclose(outer(x), inner(x) - through + jnp.maximum(through, 0), rtol=1e-4, atol=1e-6)


def test_it_is_vmapped_and_jitted_as_any_function():
    guided = jax.jit(jax.vmap(jax.grad(with_rule(network(nn.relu), "guided"))))
    np.testing.assert_allclose(guided(np.stack([X, X])), np.stack([by_hand("guided")] * 2), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_ruled_is_said():
    with pytest.raises(ValueError, match="'both' is not one of gradient, deconvnet, guided"):
        with_rule(network(nn.relu), "both")
    with pytest.raises(ValueError, match="no ReLU to be ruled by 'guided'"):
        with_rule(network(jnp.tanh), "guided")(X)

    def looped(x):
        return jax.lax.scan(lambda carry, _: (nn.relu(carry), None), x, None, length=2)[0].sum()

    with pytest.raises(ValueError, match="A ReLU in a scan cannot be ruled"):
        with_rule(looped, "guided")(X)
