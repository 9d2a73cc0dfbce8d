import jax
import numpy as np
import pytest

from jaxvision.ops.sampling import sample

ROWS = 20


@pytest.mark.parametrize(("count", "fraction"), [(8, 0.25), (8, 0.5), (6, 0.1), (8, 1.0), (50, 0.5)])
def test_takes_the_best_positives_then_the_best_negatives(count, fraction):
    rng = np.random.default_rng(count)
    kind = rng.integers(0, 3, (200, ROWS)) * (rng.random((200, 1)) < 0.9)
    kind[:10] = 1  # only positives
    kind[10:20] = 2  # only negatives
    priorities = rng.permuted(np.tile(np.arange(ROWS, dtype=np.float32), (200, 1)), axis=1)
    indices, valid, is_positive = jax.jit(jax.vmap(lambda k, p: sample(k == 1, k == 2, p, count, fraction)))(
        kind, priorities
    )
    assert indices.shape == valid.shape == is_positive.shape == (200, min(count, ROWS))
    for row in range(200):
        by_priority = np.argsort(-priorities[row])
        positives = [i for i in by_priority if kind[row, i] == 1][: int(count * fraction)]
        negatives = [i for i in by_priority if kind[row, i] == 2][: count - len(positives)]
        chosen = np.asarray(indices[row])[np.asarray(valid[row])]
        assert chosen.tolist() == positives + negatives
        assert np.asarray(valid[row]).sum() == len(chosen) and np.asarray(valid[row])[: len(chosen)].all()
        assert np.asarray(is_positive[row]).nonzero()[0].tolist() == list(range(len(positives)))
        assert (np.asarray(indices[row])[len(chosen) :] == 0).all()
