import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import config as configs
from jaxvision.train.optimizer import average_parameters, make_optimizer, make_schedule

PARAMS = {
    "trunk": {"conv": {"kernel": jnp.arange(6.0).reshape(2, 3) / 5 - 0.4, "bias": jnp.array([0.5, -1.0, 2.0])}},
    "head": {"kernel": jnp.ones((3, 2)) * 0.3},
}


def settings(**changes):
    return configs.override(configs.default(), {"optimizer": {"schedule": "constant", **changes}}).optimizer


def gradients(steps):
    rng = np.random.default_rng(0)
    return [jax.tree.map(lambda p: jnp.array(rng.normal(size=p.shape), jnp.float32), PARAMS) for _ in range(steps)]


def descend(optimizer, grads, params=PARAMS):
    """The parameters after each update, and the last state."""
    state, path = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for gradient in grads:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path, state


def assert_trees(actual, wanted, rtol=1e-5):
    jax.tree.map(lambda a, w: np.testing.assert_allclose(a, w, rtol, 1e-6), actual, wanted)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("constant", {0: 1e-3, 5: 0.5005, 10: 1, 11: 1, 99: 1}),
        ("cosine", {0: 1e-3, 10: 1, 55: 0.5, 100: 0, 32: 0.5 * (1 + np.cos(np.pi * 22 / 90))}),
        ("poly:2", {0: 1e-3, 10: 1, 55: 0.25, 100: 0, 120: 0}),
        ("poly", {55: 0.5**0.9}),
        ("step:40,80", {10: 1, 39: 1, 40: 0.1, 79: 0.1, 80: 0.01, 99: 0.01}),
    ],
)
def test_schedules(name, wanted):
    schedule = make_schedule(settings(schedule=name, warmup=10, learning_rate=2.0), 100)
    for step, factor in wanted.items():
        np.testing.assert_allclose(schedule(step), 2 * factor, atol=1e-6, err_msg=f"step {step}")


def test_schedule_without_warmup_starts_at_the_rate():
    assert make_schedule(settings(schedule="cosine", learning_rate=0.1), 10)(0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule": "cosin"}, 'mean "cosine"'),
        ({"schedule": "step"}, "step:800,950"),
        ({"schedule": "step:50,20"}, "increasing"),
        ({"schedule": "step:5", "warmup": 10}, "after the warm-up"),
        ({"warmup": 100}, "leaves nothing"),
        ({"name": "adamx"}, 'mean "adam'),
        ({"trainable": "neck"}, "'neck' finds no parameter"),
        ({"factors": (("neck", 0.1),)}, "'neck' finds no parameter"),
    ],
)
def test_what_cannot_be_meant_is_an_error(changes, said):
    with pytest.raises(ValueError, match=said):
        make_optimizer(settings(**changes), 100, PARAMS)


def numpy_descent(grads, direction, decay_first, *, rate, decay, clip, factors):
    """The oracle: clip by the global norm, decay of matrices before or after the direction, the rate and its factors."""
    params = {"/".join(k.key for k in path): np.array(p) for path, p in jax.tree_util.tree_leaves_with_path(PARAMS)}
    memory = {name: {} for name in params}
    for t, tree in enumerate(grads, 1):
        flat = {"/".join(k.key for k in path): np.array(g) for path, g in jax.tree_util.tree_leaves_with_path(tree)}
        norm = np.sqrt(sum((g**2).sum() for g in flat.values()))
        for name, g in flat.items():
            g = g * min(1, clip / norm)
            shrink = decay * params[name] if params[name].ndim > 1 else 0
            d = direction(g + shrink, memory[name], t) if decay_first else direction(g, memory[name], t) + shrink
            params[name] = params[name] - rate * factors.get(name, 1) * d
    return params


def momentum(g, memory, _):
    memory["m"] = 0.9 * memory.get("m", 0) + g
    return memory["m"]


def adam(g, memory, t):
    memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g**2
    return memory["m"] / (1 - 0.9**t) / (np.sqrt(memory["v"] / (1 - 0.999**t)) + 1e-8)


@pytest.mark.parametrize(
    ("name", "direction", "decay_first"), [("sgd", momentum, True), ("adam", adam, True), ("adamw", adam, False)]
)
def test_descent_is_that_of_a_numpy_loop(name, direction, decay_first):
    """Clipping, weight decay of matrices alone, and the first factor that matches."""
    grads = gradients(5)
    factors = (("trunk/conv/bias", 2.0), ("^trunk", 0.1))
    optimizer, _ = make_optimizer(
        settings(name=name, learning_rate=0.05, weight_decay=0.3, clip=2.0, factors=factors), 100, PARAMS
    )
    path, _ = descend(optimizer, grads)
    wanted = numpy_descent(
        grads,
        direction,
        decay_first,
        rate=0.05,
        decay=0.3,
        clip=2.0,
        factors={"trunk/conv/bias": 2.0, "trunk/conv/kernel": 0.1},
    )
    for place, value in jax.tree_util.tree_leaves_with_path(path[-1]):
        np.testing.assert_allclose(value, wanted["/".join(k.key for k in place)], 1e-4, 1e-6)


def test_frozen_parameters_keep_their_bits_and_have_no_state():
    optimizer, _ = make_optimizer(settings(name="adam", trainable="head|bias", weight_decay=0.1), 100, PARAMS)
    path, state = descend(optimizer, gradients(3))
    np.testing.assert_array_equal(path[-1]["trunk"]["conv"]["kernel"], PARAMS["trunk"]["conv"]["kernel"])
    assert np.all(path[-1]["head"]["kernel"] != PARAMS["head"]["kernel"])
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    assert shapes.count((3, 2)) == 2 and shapes.count((3,)) == 2 and (2, 3) not in shapes


def test_frozen_parameters_do_not_count_in_clipping():
    huge = jax.tree.map(jnp.ones_like, PARAMS)
    huge["trunk"]["conv"]["kernel"] *= 1e6
    rest = settings(name="sgd", momentum=0.0, learning_rate=1.0, clip=10.0, trainable="head")
    path, _ = descend(make_optimizer(rest, 100, PARAMS)[0], [huge])
    np.testing.assert_allclose(path[0]["head"]["kernel"], PARAMS["head"]["kernel"] - 1, atol=1e-6)


def test_accumulated_halves_are_one_step_of_their_mean():
    grads = gradients(4)
    halves, _ = descend(make_optimizer(settings(name="adam", accumulate=2), 100, PARAMS)[0], grads)
    means = [jax.tree.map(lambda a, b: (a + b) / 2, *grads[i : i + 2]) for i in (0, 2)]
    whole, _ = descend(make_optimizer(settings(name="adam"), 100, PARAMS)[0], means)
    assert_trees(halves[0], PARAMS, 0)
    assert_trees(halves[1], whole[0])
    assert_trees(halves[3], whole[1])


def test_schedule_counts_training_steps_also_when_accumulating():
    """Two updates of two steps each: the second one's rate is that of step 2."""
    ones = [jax.tree.map(jnp.ones_like, PARAMS)] * 4
    config = settings(name="sgd", momentum=0.0, learning_rate=1.0, schedule="step:2", accumulate=2)
    path, _ = descend(make_optimizer(config, 4, PARAMS)[0], ones)
    np.testing.assert_allclose(path[3]["head"]["kernel"], PARAMS["head"]["kernel"] - 1.1, atol=1e-6)


def test_averaged_parameters_by_hand():
    grads = gradients(12)
    optimizer = optax.chain(optax.sgd(0.1), average_parameters(0.5))
    path, state = descend(optimizer, grads)
    averaged = np.array(PARAMS["head"]["kernel"])
    for t, params in enumerate(path):
        weight = min(0.5, (1 + t) / (10 + t))
        averaged = weight * averaged + (1 - weight) * np.array(params["head"]["kernel"])
    np.testing.assert_allclose(state[1].averaged["head"]["kernel"], averaged, 1e-5)
    plain, _ = descend(optax.sgd(0.1), grads)
    assert_trees(path[-1], plain[-1], 0)  # what is trained does not know of the average


def test_an_average_is_of_updates_not_of_the_steps_between():
    optimizer, _ = make_optimizer(settings(name="sgd", accumulate=2, ema=0.9), 100, PARAMS)
    _, state = descend(optimizer, gradients(4))
    assert optax.tree_utils.tree_get(state, "averaged") is not None
    assert int(state.inner_opt_state[1].count) == 2
