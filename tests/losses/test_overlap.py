import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses.overlap import dice, lovasz_softmax

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 5, 6, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, (3, 5, 6))  # nobody is of class 3
LABELS[0, :2], LABELS[1] = 255, 1
SURE = 1e3


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def regions():
    """(probabilities, truth) of each image and class in its truth, pixel by pixel."""
    for logits, labels in zip(LOGITS.astype(np.float64), LABELS):
        kept = labels != 255
        for c in np.unique(labels[kept]):
            yield softmax(logits)[kept][:, c], labels[kept] == c


def slow_lovasz(p, t):
    order = sorted(range(len(p)), key=lambda i: -abs(t[i] - p[i]))
    loss, before, wrong = 0.0, 0.0, np.zeros(len(p), bool)
    for i in order:
        wrong[i] = True
        predicted = t ^ wrong
        jaccard = 1 - (t & predicted).sum() / (t | predicted).sum()
        loss, before = loss + abs(t[i] - p[i]) * (jaccard - before), jaccard
    return loss


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_dice_is_the_slow_one(squared, smooth):
    wanted = [
        1 - (2 * (p * t).sum() + smooth) / ((p**2 if squared else p).sum() + t.sum() + smooth) for p, t in regions()
    ]
    found, count = jax.jit(lambda x: dice(x, LABELS, ignore=255, squared=squared, smooth=smooth))(LOGITS)
    np.testing.assert_allclose(found, sum(wanted), rtol=1e-5)
    assert count == len(wanted)


def test_lovasz_is_the_slow_one():
    wanted = [slow_lovasz(p, t) for p, t in regions()]
    found, count = jax.jit(lambda x: lovasz_softmax(x, LABELS, ignore=255))(LOGITS)
    np.testing.assert_allclose(found, sum(wanted), rtol=1e-5)
    assert count == len(wanted)


def test_of_sure_predictions_lovasz_is_the_jaccard_loss():
    labels = np.array([[0, 0, 1, 1, 1, 0]])
    logits = SURE * np.eye(2)[np.array([[0, 1, 1, 1, 0, 0]])]
    found, count = lovasz_softmax(logits, labels)
    assert float(found / count) == pytest.approx(1 - (2 / 4 + 2 / 4) / 2)


@pytest.mark.parametrize("loss", [dice, lovasz_softmax])
def test_right_is_zero_and_what_does_not_count_has_no_say(loss):
    labels = np.where(LABELS == 255, 0, LABELS)
    right, count = loss(SURE * np.eye(4, dtype=np.float32)[labels], labels)
    assert float(right) == pytest.approx(0, abs=1e-5) and count == 7
    noise = jnp.where((LABELS == 255)[..., None], jnp.nan, LOGITS)
    np.testing.assert_allclose(loss(noise, LABELS), loss(LOGITS, LABELS), rtol=1e-6)
    gradient = jax.grad(lambda x: loss(x, LABELS, np.array([True, False, True]))[0])(noise)
    assert np.isfinite(gradient).all() and not gradient[1].any() and gradient[2].any()
    assert loss(LOGITS, np.full_like(LABELS, 255)) == (0, 0)
