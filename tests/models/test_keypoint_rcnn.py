import jax
import numpy as np
import pytest
from small import Network, check_predictions_are_blind, empty, example, shapes

from jaxvision import architecture as architectures
from jaxvision.models.detection.two_stage.keypoint_head import keypoint_losses


@pytest.fixture(scope="module")
def network():
    """Its score threshold is low, so that there are detections without training; its head sees one positive."""
    return Network("keypoint_rcnn", score_threshold=0.1, max_positives=1)


@pytest.fixture(scope="module")
def forwarded(network):
    batch = network.batch([example(2), empty(3)])
    return batch, *jax.device_get(network.forward(network.variables, batch))


def test_predictions_do_not_see_the_ground_truth(network):
    check_predictions_are_blind(network)


def test_joints_lie_in_their_boxes(forwarded):
    *_, predictions = forwarded
    valid = predictions["valid"]
    points, boxes = predictions["keypoints"][valid], predictions["boxes"][valid][:, None]
    assert valid.sum() > 3 and (points[..., 2] == 1).all()
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 1)
    assert (points[..., :2] > boxes[..., :2]).all() and (points[..., :2] < boxes[..., :2] + sides).all()


def test_positives_that_the_head_does_not_see_are_counted(forwarded):
    _, outputs, losses, _ = forwarded
    positives = (outputs["roi_classes"] > 0).sum(1)
    assert positives[0] > 1 and positives[1] == 0
    assert outputs["keypoint_overflow"].tolist() == [positives[0] - 1, 0]
    assert outputs["keypoint_logits"].shape == (2, 1, 16, 16, 5)
    assert 0 < losses["keypoint"][1] <= 5  # joints of one RoI


def test_loss_is_that_of_labelled_joints_in_positive_rois():
    """Logits that are high in the right cell have no loss; one joint of another cell has all of it."""
    boxes = np.array([[[0, 0, 32, 32], [40, 40, 56, 56]]], np.float32)
    joints = np.zeros((1, 2, 3, 3), np.float32)
    joints[0, 0] = [[5, 9, 2], [20, 20, 0], [31, 1, 1]]  # the second is not labelled
    joints[0, 1] = [[41, 41, 2], [60, 50, 2], [48, 55, 2]]  # the second lies outside
    outputs = {
        "rois": boxes[:, [1, 0, 0]],
        "roi_matches": np.array([[1, 0, 0]]),
        "roi_classes": np.array([[1, 2, 0]]),
        "rois_valid": np.ones((1, 3), bool),
    }
    logits = np.zeros((1, 3, 16, 16, 3), np.float32)
    logits[0, 0, 1, 1, 0] = logits[0, 0, 15, 8, 2] = 40  # cells of 1 pixel
    logits[0, 1, 4, 2, 0] = logits[0, 1, 0, 15, 2] = 40  # of 2

    @jax.jit
    def loss(logits, real):
        return keypoint_losses({**outputs, "keypoint_logits": logits}, {"keypoints": joints}, real)["keypoint"]

    real = np.array([True])
    total, count = loss(logits, real)
    assert count == 4 and total < 1e-3
    total, count = loss(np.roll(logits, 1, 3), real)
    assert count == 4 and total == pytest.approx(4 * 40, rel=1e-3)
    total, count = loss(np.zeros_like(logits)[:, :1], real)
    assert count == 2 and total == pytest.approx(2 * np.log(256))  # the head saw the first RoI alone
    total, count = loss(logits, ~real)
    assert count == total == 0


def test_another_number_of_joints_is_an_error(network):
    batch = network.batch([example(2)])
    batch["keypoints"] = batch["keypoints"][:, :, :4]
    with pytest.raises(ValueError, match=r"batch has 4 joints, the model 5: set its `joints`"):
        jax.eval_shape(network.forward, network.variables, batch)


def test_parameters_are_torchvisions():
    """keypointrcnn_resnet50_fpn has 59,137,258; the scales and biases of frozen norms are buffers there."""
    params = shapes("keypoint_rcnn", num_classes=2)["params"]
    normed = [
        leaf.size for path, leaf in jax.tree.leaves_with_path(params) if "'norm'" in jax.tree_util.keystr(path[-2:-1])
    ]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) - sum(normed) == 59_137_258


def test_heads_may_be_normalised():
    params = shapes("keypoint_rcnn", num_classes=2, joints=14, keypoint_convs=(8, 8), head_norm="group")["params"]
    assert set(params["keypoint_head"]) == {"conv0", "norm0", "conv1", "norm1", "logits", "logits_bias"}
    assert "bias" not in params["keypoint_head"]["conv0"]
    assert params["keypoint_head"]["logits"].shape == (4, 4, 14, 8)


def test_options_are_those_of_faster_rcnn_and_its_own():
    with pytest.raises(ValueError, match=r"no option 'keypoint_conv'.*keypoint_convs"):
        architectures.create("keypoint_rcnn", num_classes=2, keypoint_conv=(8,))
    with pytest.raises(ValueError, match="resnet50_fpn"):
        architectures.create("keypoint_rcnn", num_classes=2, backbone="resnet50")
