import jax
import numpy as np
import pytest
from golden import GOLDEN
from test_roi import slow_roi_align

from jaxvision.ops.masks import mask_targets, paste_masks

CANVAS = np.array([0, 0, 40, 30], np.float32)
ROIS = np.array([[3, 4, 21.5, 18], [0, 0, 40, 30], [30, 20, 40, 30], [7, 9, 7.5, 29], [10, 10, 10, 10]], np.float32)
MATCHES = np.array([1, 0, 2, 1, 0], np.int32)


resample = jax.jit(mask_targets, static_argnums=(4, 5, 6))


def canvas_masks():
    y, x = np.mgrid[:30, :40] + 0.5
    return np.stack([(x - cx) ** 2 + (y - cy) ** 2 < r * r for cx, cy, r in [(20, 15, 9), (12, 10, 7), (36, 25, 8)]])


@pytest.mark.parametrize(("aligned", "sampling_ratio"), [(False, -1), (False, 2), (True, 2), (True, 3)])
def test_on_the_whole_canvas_it_is_roi_align(aligned, sampling_ratio):
    masks = canvas_masks().astype(np.uint8)
    frames = np.tile(CANVAS, (3, 1))
    targets = resample(masks, frames, ROIS, MATCHES, 5, sampling_ratio, aligned)
    assert targets.dtype == np.float32
    for roi, match, target in zip(ROIS, MATCHES, targets):
        sides = roi[2:] - roi[:2] if aligned else np.maximum(roi[2:] - roi[:2], 1)
        samples = sampling_ratio if sampling_ratio > 0 else np.ceil(sides / 5).astype(int)
        if sampling_ratio < 0 and samples[0] != samples[1]:
            continue  # the slow loop has one number for both axes; the golden RoIAlign covers the rest
        samples = samples if sampling_ratio > 0 else samples[0]
        expected = slow_roi_align(masks[match][..., None], roi, (5, 5), 1, samples, aligned)[..., 0]
        np.testing.assert_allclose(target, expected, atol=1e-5)


def test_a_frame_of_its_own_gives_what_the_canvas_gives():
    masks = canvas_masks().astype(np.uint8)
    frames = np.array([[10, 5, 31, 25], [4, 2, 20, 18], [27, 16, 40, 30]], np.float32)
    cut = np.zeros((3, 80, 84), np.uint8)
    for grid, mask, (x1, y1, x2, y2) in zip(cut, masks, frames.astype(int)):
        rows, columns = np.arange(80) * (y2 - y1) // 80 + y1, np.arange(84) * (x2 - x1) // 84 + x1
        grid[:] = mask[rows][:, columns]
    inside = ROIS[:3]
    own = resample(cut, frames, inside, MATCHES[:3], 7, 4)
    whole = resample(masks, np.tile(CANVAS, (3, 1)), inside, MATCHES[:3], 7, 4)
    assert abs(own - whole).mean() < 0.03  # at the rim the finer grid has steps where the canvas interpolates
    assert ((own > 0.5) == (whole > 0.5)).mean() > 0.95


def test_degenerate_frames_and_unmatched_rois_give_zeros():
    masks = np.ones((2, 6, 6), np.uint8)
    frames = np.array([[0, 0, 0, 0], [0, 0, 10, 10]], np.float32)
    rois = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10]], np.float32)
    targets = resample(masks, frames, rois, np.array([0, 1, 1, -1]), 4)
    np.testing.assert_allclose(targets.mean((1, 2)), [0, 1, 0, 0], atol=1e-6)


def test_paste_is_torchvisions():
    pasted = paste_masks(GOLDEN["paste.masks"][:, 0], GOLDEN["paste.boxes"], 60, 80)
    np.testing.assert_allclose(pasted, GOLDEN["paste.out"][:, 0], atol=1e-5)


def test_aligned_paste_samples_at_pixel_centres():
    mask = np.random.default_rng(0).random((1, 4, 4)).astype(np.float32)
    x1, y1, x2, y2 = box = np.array([-2.3, 3.4, 9.8, 11.2], np.float32)
    pasted = paste_masks(mask, box[None], 12, 8, "aligned")[0]
    for y in range(12):
        for x in range(8):
            u, v = (x + 0.5 - x1) / (x2 - x1) * 4 - 0.5, (y + 0.5 - y1) / (y2 - y1) * 4 - 0.5
            inside = x1 <= x + 0.5 <= x2 and y1 <= y + 0.5 <= y2
            u, v = np.clip([u, v], 0, 3)
            weights = np.maximum(0, 1 - abs(v - np.arange(4)))[:, None] * np.maximum(0, 1 - abs(u - np.arange(4)))
            assert pasted[y, x] == pytest.approx((weights * mask[0]).sum() * inside, abs=1e-5)


@pytest.mark.parametrize("method", ["torchvision", "aligned"])
def test_boxes_outside_or_empty_paste_nothing_wrong(method):
    boxes = np.array([[50, 50, 60, 60], [-20, -20, -5, -5], [3, 3, 3, 3], [-5, -5, 25, 25]], np.float32)
    pasted = paste_masks(np.ones((4, 3, 3)), boxes, 20, 20, method)
    assert np.isfinite(pasted).all()
    assert pasted[:2].sum() == 0 and pasted[2].sum() <= 1 and (pasted[3] > 0.99).all()
    assert paste_masks(np.ones((0, 3, 3)), boxes[:0], 20, 20, method).shape == (0, 20, 20)
    with pytest.raises(ValueError, match="nearest"):
        paste_masks(np.ones((4, 3, 3)), boxes, 20, 20, "nearest")


def test_pasting_undoes_cutting():
    disc = canvas_masks()[:1].astype(np.uint8)
    box = np.array([[10, 5, 31, 25]], np.float32)
    target = resample(disc, CANVAS[None], box, np.zeros(1, np.int32), 28)
    again = paste_masks(target, box, 30, 40, "aligned") > 0.5
    assert (again != disc).sum() <= 4


def test_a_mask_ends_where_its_frame_does():
    frame, roi = np.array([[10, 8, 20, 23]], np.float32), np.array([[0, 0, 30, 30]], np.float32)
    target = resample(np.ones((1, 5, 3), np.uint8), frame, roi, np.zeros(1, np.int32), 30, 1)[0]
    expected = np.zeros((30, 30))
    expected[8:23, 10:20] = 1
    np.testing.assert_allclose(target, expected, atol=1e-6)
