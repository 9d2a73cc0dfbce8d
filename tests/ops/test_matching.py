import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN

from jaxvision.ops import boxes as box_ops
from jaxvision.ops.matching import BELOW, BETWEEN, claim_best, claim_own, match

IOU = np.asarray(box_ops.iou(GOLDEN["boxes"][:6], GOLDEN["boxes"][6:300]))


def slow_match(iou, valid, high, low, low_quality):
    """One anchor at a time, torchvision's rule and the guard against ground truth that touches nothing."""
    result = []
    for anchor in range(iou.shape[1]):
        rows = [g for g in range(len(iou)) if valid[g]]
        own = max(rows, key=lambda g: (iou[g, anchor], -g), default=None)
        best = iou[own, anchor] if rows else -1
        forced = low_quality and any(iou[g, anchor] == iou[g].max() > 0 for g in rows)
        result.append(own if best >= high or forced else BELOW if best < low else BETWEEN)
    return result


@pytest.mark.parametrize("low_quality", [False, True])
def test_is_torchvisions_with_and_without_padding(low_quality):
    golden = GOLDEN[f"match.low{int(low_quality)}"]
    np.testing.assert_array_equal(match(IOU, jnp.ones(6, bool), 0.6, 0.4, low_quality), golden)
    padded, valid = np.concatenate([IOU, 0 * IOU, 0 * IOU + 0.9]), np.arange(18) < 6
    matched = jax.jit(match, static_argnums=4)(padded, valid, 0.6, 0.4, low_quality)
    np.testing.assert_array_equal(matched, golden)
    assert matched.dtype == jnp.int32


@pytest.mark.parametrize("low_quality", [False, True])
def test_random_overlaps_with_ties_and_invalid_rows(low_quality):
    rng = np.random.default_rng(0)
    iou = rng.integers(0, 11, (300, 4, 9)).astype(np.float32) / 10 * (rng.random((300, 4, 1)) < 0.8)
    valid = rng.random((300, 4)) < 0.7
    matched = jax.jit(jax.vmap(lambda i, v: match(i, v, 0.7, 0.3, low_quality)))(iou, valid)
    assert (~valid).all(1).any()  # pictures without any ground truth are among them
    high, low = np.float32(0.7), np.float32(0.3)
    for row, i, v in zip(np.asarray(matched), iou, valid):
        assert row.tolist() == slow_match(i, v, high, low, low_quality)


def test_ground_truth_that_touches_nothing_forces_nothing():
    iou = np.array([[0, 0, 0, 0], [0.1, 0.8, 0.2, 0]], np.float32)
    assert match(iou, np.ones(2, bool), 0.7, 0.3, True).tolist() == [-1, 1, -1, -1]
    assert match(iou[:0], np.ones(0, bool), 0.7, 0.3, True).tolist() == [-1] * 4


def slow_claim(matches, iou, valid):
    """torchvision's SSDMatcher, one ground truth after the other."""
    matches = list(matches)
    for g in np.flatnonzero(valid):
        if iou[g].max() > 0:
            matches[iou[g].argmax()] = g
    return matches


def test_each_ground_truth_claims_its_best_anchor_and_the_last_has_it():
    iou = np.array([[0.1, 0.6, 0.2], [0, 0.3, 0.1], [0, 0, 0], [0.9, 0.9, 0.9]], np.float32)
    valid = np.array([True, True, True, False])
    assert claim_best(np.array([-1, 0, -1]), iou, valid).tolist() == [-1, 1, -1]
    rng = np.random.default_rng(1)
    iou = rng.integers(0, 5, (300, 4, 6)).astype(np.float32) / 10 * (rng.random((300, 4, 1)) < 0.8)
    valid, matches = rng.random((300, 4)) < 0.7, rng.integers(-1, 4, (300, 6)).astype(np.int32)
    claimed = jax.jit(jax.vmap(claim_best))(matches, iou, valid)
    assert claimed.tolist() == [slow_claim(*row) for row in zip(matches, iou, valid)]
    assert claimed.dtype == jnp.int32
    np.testing.assert_array_equal(claim_best(matches[0], iou[0, :0], valid[0, :0]), matches[0])


def slow_claim_own(matches, iou, valid):
    """The authors' MatchBBox, pair after pair."""
    matches, rows, anchors = list(matches), set(np.flatnonzero(valid)), set(range(iou.shape[1]))
    while rows:
        best, pair = 0, None
        for a in sorted(anchors):
            for g in sorted(rows):
                if iou[g, a] > best:
                    best, pair = iou[g, a], (g, a)
        if pair is None:
            break
        matches[pair[1]] = pair[0]
        rows.remove(pair[0])
        anchors.remove(pair[1])
    return matches


def test_each_ground_truth_claims_an_anchor_of_its_own():
    rng = np.random.default_rng(0)
    iou = rng.integers(0, 11, (200, 4, 6)).astype(np.float32) / 10 * (rng.random((200, 4, 6)) < 0.5)
    valid = rng.random((200, 4)) < 0.7
    first = jax.vmap(lambda i, v: match(i, v, 0.5, 0.5))(iou, valid)
    found = np.asarray(jax.jit(jax.vmap(claim_own))(first, iou, valid))
    assert found.dtype == np.int32 and (~valid).all(1).any()
    for row, before, i, v in zip(found, np.asarray(first), iou, valid):
        assert row.tolist() == slow_claim_own(before, i, v)
    assert (found != np.asarray(jax.vmap(claim_best)(first, iou, valid))).any()
    assert claim_own(first[0], iou[0][:0], valid[0][:0]).tolist() == first[0].tolist()


def test_two_ground_truths_with_one_best_anchor_both_get_one():
    iou = np.array([[0.3, 0.2, 0], [0.4, 0.1, 0]], np.float32)
    nothing = match(iou, np.ones(2, bool), 0.5, 0.5)
    assert claim_own(nothing, iou, np.ones(2, bool)).tolist() == [1, 0, BELOW]
    assert claim_best(nothing, iou, np.ones(2, bool)).tolist() == [1, BELOW, BELOW]
