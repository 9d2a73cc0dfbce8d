"""SEC's losses against loops over images, classes and cells."""

import jax
import numpy as np
import pytest

from jaxvision.losses.sec import FLOOR, constrain, expand, rank_pool, seed

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (4, 3, 5, 4)).astype(np.float32)
REFINED = RNG.normal(0, 2, LOGITS.shape).astype(np.float32)
SEEDS = np.where(RNG.random((4, 3, 5)) < 0.5, 255, RNG.integers(0, 4, (4, 3, 5)))
SEEDS[1] = 255
PRESENT = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 0]], bool)
REAL = np.array([True, True, True, False])
COVERED = np.ones((4, 3, 5), bool)
COVERED[0, 2], COVERED[2, :, 3:] = False, False


def softmax(x):
    x = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def slow_seed():
    terms = []
    for logits, seeds, real in zip(LOGITS, SEEDS, REAL):
        logs = [-np.log(softmax(logits)[y, x, seeds[y, x]]) for y in range(3) for x in range(5) if seeds[y, x] != 255]
        if real and logs:
            terms.append(np.mean(logs))
    return sum(terms), len(terms)


def slow_pool(scores, decay):
    scores = sorted(scores, reverse=True)
    weights = [1.0 if j == 0 else decay**j for j in range(len(scores))]
    return sum(w * s for w, s in zip(weights, scores)) / sum(weights)


def slow_expand(foreground, background, absent):
    terms = []
    for logits, present, real, covered in zip(LOGITS, PRESENT, REAL, COVERED):
        if not real:
            continue
        p = (softmax(logits)[covered] + FLOOR) / (1 + 4 * FLOOR)
        found = [-np.log(slow_pool(p[:, c], foreground)) for c in (1, 2, 3) if present[c]]
        wrong = [-np.log(1 - slow_pool(p[:, c], absent)) for c in (1, 2, 3) if not present[c]]
        terms.append(sum(np.mean(x) for x in (found, wrong) if x) - np.log(slow_pool(p[:, 0], background)))
    return sum(terms), len(terms)


def slow_constrain():
    terms = []
    for logits, refined, real, covered in zip(LOGITS, REFINED, REAL, COVERED):
        p, q = softmax(logits)[covered], softmax(refined)[covered]
        if real:
            terms.append(np.mean([sum(b * np.log(b / a) for a, b in zip(*cell)) for cell in zip(p, q)]))
    return sum(terms), len(terms)


def close(found, wanted):
    assert tuple(map(float, found)) == pytest.approx(wanted, rel=1e-5)


def test_seed_is_the_slow_one():
    close(jax.jit(seed)(LOGITS, SEEDS, REAL), slow_seed())
    assert slow_seed()[1] == 2  # one image has no seed, one is not real


@pytest.mark.parametrize("decays", [(0.996, 0.999, 0.0), (0.5, 0.8, 0.3)])
def test_expand_is_the_slow_one(decays):
    close(jax.jit(lambda x: expand(x, PRESENT, REAL, COVERED, *decays))(LOGITS), slow_expand(*decays))


def test_constrain_is_the_slow_one():
    close(jax.jit(constrain)(LOGITS, REFINED, REAL, COVERED), slow_constrain())


def test_pooling_by_ranks_lies_between_the_maximum_and_the_mean():
    scores = RNG.random((3, 20)).astype(np.float32)
    np.testing.assert_allclose(rank_pool(scores, 0.0), scores.max(1))
    np.testing.assert_allclose(rank_pool(scores, 1.0), scores.mean(1), rtol=1e-6)
    between = rank_pool(scores, 0.9)
    assert (between > scores.mean(1)).all() and (between < scores.max(1)).all()
    covered = np.arange(20) < np.array([20, 7, 0])[:, None]
    some = rank_pool(scores, 0.9, covered)
    np.testing.assert_allclose(some[1], rank_pool(scores[1:2, :7], 0.9)[0], rtol=1e-6)
    assert some[2] == 0


def test_the_crf_passes_no_gradient_and_what_it_agrees_with_costs_nothing():
    gradient = jax.jit(jax.grad(lambda x, r: constrain(x, r, REAL, COVERED)[0], (0, 1)))
    of_logits, of_refined = gradient(LOGITS, REFINED)
    assert not np.any(of_refined) and np.any(of_logits[0]) and not np.any(of_logits[3]) and not np.any(of_logits[0, 2])
    assert float(constrain(LOGITS, LOGITS + 3)[0]) == pytest.approx(0, abs=1e-5)


def test_what_does_not_count_has_no_say_and_nothing_is_not_finite():
    nowhere = np.where((REAL[:, None, None] & COVERED)[..., None], 50 * LOGITS, np.nan).astype(np.float32)
    seeds = np.where(COVERED, SEEDS, 255)

    def losses(x):
        return seed(x, seeds, REAL)[0] + expand(x, PRESENT, REAL, COVERED)[0] + constrain(x, -x, REAL, COVERED)[0]

    loss, gradient = jax.jit(jax.value_and_grad(losses))(nowhere)
    assert np.isfinite(loss) and np.isfinite(gradient).all() and not gradient[3].any() and not gradient[0, 2].any()
