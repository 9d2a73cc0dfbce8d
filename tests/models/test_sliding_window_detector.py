import jax
import numpy as np
import pytest
from small import SIDE, Network, check_predictions_are_blind, create, empty, example

from jaxvision import architecture as architectures
from jaxvision.models.detection.sliding_window_detector import dense_windows
from jaxvision.ops.boxes import iou


def test_windows_cover_the_canvas():
    windows = dense_windows((50, 80), (16, 28), (0.5, 1.0, 3.0), 0.4)
    assert windows.dtype == np.float32 and windows.min() >= 0 and (windows <= [80, 50, 80, 50]).all()
    sides, seen = windows[:, 2:] - windows[:, :2], 0
    for side in (16, 28):
        for ratio in (0.5, 1.0, 3.0):  # height / width, as of anchors
            form = np.array([side / np.sqrt(ratio), side * np.sqrt(ratio)])
            own = windows[np.isclose(sides, form, atol=1e-3).all(1)]
            seen += len(own)
            for axis, extent in ((0, 80), (1, 50)):
                places = np.unique(own[:, axis])
                assert places[0] == 0 and places[-1] == pytest.approx(extent - form[axis], abs=1e-3)
                assert np.diff(places).max() <= 0.4 * form[axis] + 1e-3
            assert len(own) == len(np.unique(own[:, 0])) * len(np.unique(own[:, 1]))
    assert seen == len(windows)


def test_forms_that_do_not_fit_are_left_out():
    small = dense_windows((20, 20), (16,), (1.0,), 0.5)
    np.testing.assert_array_equal(dense_windows((20, 20), (16, 30), (1.0,), 0.5), small)
    with pytest.raises(ValueError, match=r"No window of sides \(30,\) and ratios \(1.0,\) fits a canvas of \(20, 20\)"):
        dense_windows((20, 20), (30,), (1.0,), 0.5)


@pytest.mark.parametrize(("side", "windows", "times"), [(128, 2237, 35), (512, 41521, 41)])
def test_what_a_picture_costs_is_what_the_file_says(side, windows, times):
    model = architectures.create("sliding_window_detector", num_classes=7).model
    count, share = model.cost((side, side))
    assert count == windows and round(share) == times


@pytest.fixture(scope="module")
def network():
    return Network("sliding_window_detector", score_threshold=0.01)


def test_predictions_do_not_see_the_ground_truth(network):
    check_predictions_are_blind(network)


def test_windows_are_seen_cut_out_and_resized(network):
    """A window of the canvas's own pixels shows them; the scores follow the window and not its place in the list."""
    architecture = create("sliding_window_detector", sides=(16,), ratios=(1.0,), step=1.0)
    batch = network.batch([example(1)])
    patch = batch["image"][:, 16:32, 32:48]
    alone = {"image": np.ascontiguousarray(patch), "image_size": np.array([[16, 16]], np.int32)}
    variables = architecture.init(jax.random.key(0), batch)
    see = jax.jit(architecture.model.apply)
    found, single = see(variables, {name: batch[name] for name in alone}), see(variables, alone)
    at = np.flatnonzero((np.array(found["windows"]) == [32, 16, 48, 32]).all(1))
    assert len(at) == 1 and single["logits"].shape == (1, 1, 4)
    np.testing.assert_allclose(found["logits"][0, at[0]], single["logits"][0, 0], rtol=1e-4, atol=1e-5)


def test_sampled_windows_are_what_their_overlap_says(network):
    """Objects overlap one of their class by a half, background none by that; padding and empty pictures give no object."""
    batch = network.batch([example(0), empty(1), example(5)])
    windows = dense_windows((SIDE, SIDE), (20, 26), (0.375, 1.0, 2.667), 0.25)

    @jax.jit
    def draw(key, boxes, valid, classes):
        return network.architecture.model._draw(key, windows, boxes, valid, classes)

    for i, objects in enumerate((2, 0, 2)):
        truth = batch["boxes"][i], batch["valid"][i], batch["classes"][i]
        rois, classes, found = map(np.array, draw(jax.random.key(i), *truth))
        assert rois.shape == (32, 4) and found.all()
        overlap = np.array(iou(truth[0][truth[1]], rois)).reshape(objects, 32)
        positive = classes > 0
        assert positive.sum() == 8 * (objects > 0)  # a quarter, of which there is enough
        assert (overlap.max(0, initial=0) >= 0.5).tolist() == positive.tolist()
        for k in np.flatnonzero(positive):
            assert classes[k] == truth[2][overlap[:, k].argmax()]
        assert (rois[:, 2:] > rois[:, :2]).all()  # no padding
        other = np.array(draw(jax.random.key(i + 9), *truth)[0])
        assert (other != rois).any()


def test_options_that_cannot_be_meant():
    with pytest.raises(ValueError, match=r"step is the share .* got 0"):
        create("sliding_window_detector", step=0)
    with pytest.raises(ValueError, match="view of 4 pixels is too small for 3 pools: 8 are needed"):
        create("sliding_window_detector", view=4)
