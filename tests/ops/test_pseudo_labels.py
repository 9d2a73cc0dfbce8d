"""Semantic maps from maps of classes, pixel by pixel."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxvision.ops.crf import PRESETS, refine
from jaxvision.ops.pseudo_labels import pseudo_labels

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(3, 4, 5, 3)).astype(np.float32)
PRESENT = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
IMAGE = RNG.integers(0, 256, (3, 16, 20, 3)).astype(np.uint8)
SIZE = np.array([[16, 20], [12, 20], [16, 9]], np.int32)


def enlarged(cells, height, width):
    """Bilinear between the cells' centres, the edge continued."""
    out = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        v, u = (y + 0.5) * len(cells) / height - 0.5, (x + 0.5) * cells.shape[1] / width - 0.5
        for i in range(len(cells)):
            for j in range(cells.shape[1]):
                near_v = max(0, 1 - abs(np.clip(v, 0, len(cells) - 1) - i))
                near_u = max(0, 1 - abs(np.clip(u, 0, cells.shape[1] - 1) - j))
                out[y, x] += near_v * near_u * cells[i, j]
    return out


def slow(i, threshold, certain, crf=None):
    height, width = SIZE[i]
    shares = np.zeros((4, 16, 20))
    shares[0] = threshold
    for k in np.flatnonzero(PRESENT[i]):
        evidence = enlarged(MAPS[i, ..., k].clip(0), 16, 20)[:height, :width]
        shares[k + 1, :height, :width] = evidence / evidence.max()
    shares = np.moveaxis(shares / shares.sum(0), 0, -1)[:height, :width]
    if crf is not None:
        shares = refine(shares, IMAGE[i, :height, :width], crf, "exact")
    labels = np.full((16, 20), 255)
    for y, x in np.ndindex(height, width):
        possible = {c: shares[y, x, c] for c in range(4) if c == 0 or PRESENT[i, c - 1]}
        best = max(possible, key=possible.get)
        if possible[best] >= certain:
            labels[y, x] = best
    return labels


@pytest.mark.parametrize(("threshold", "certain"), [(0.3, 0.0), (0.3, 0.6)])
def test_labels_are_the_slow_ones(threshold, certain):
    found = jax.jit(lambda m: pseudo_labels(m, PRESENT, IMAGE, SIZE, threshold, certain))(MAPS)
    assert found.dtype == np.int32
    for i in range(3):
        np.testing.assert_array_equal(found[i], slow(i, threshold, certain))
    assert set(np.unique(found[0])) == {0, 1, 3} | ({255} if certain else set())
    assert set(np.unique(found[2])) == {0, 255}  # an image without objects; beyond it nothing is said


def test_labels_with_a_crf_are_those_that_it_refines():
    crf = dataclasses.replace(PRESETS["pydensecrf"], bilateral_xy=6.0, iterations=3)
    found = jax.jit(lambda m: pseudo_labels(m, PRESENT, IMAGE, SIZE, 0.3, 0.0, crf, "exact"))(MAPS)
    for i in range(2):
        np.testing.assert_array_equal(found[i], slow(i, 0.3, 0.0, crf))
    assert (np.array(found[0]) != slow(0, 0.3, 0.0)).any()


def test_the_scale_of_a_map_does_not_matter_and_no_evidence_is_background():
    found = pseudo_labels(MAPS * np.array([7.0, 0.1, 30.0], np.float32), PRESENT, IMAGE, SIZE)
    np.testing.assert_array_equal(found, pseudo_labels(MAPS, PRESENT, IMAGE, SIZE))
    nothing = pseudo_labels(-abs(MAPS), PRESENT, IMAGE, SIZE)
    assert set(np.unique(nothing)) == {0, 255}
