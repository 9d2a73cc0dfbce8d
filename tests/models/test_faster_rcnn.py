import jax
import numpy as np
import pytest
from small import TWO_STAGE, Network, empty, example, shapes
from test_parameter_counts import normalisation, size

from jaxvision import architecture as architectures
from jaxvision import tasks
from jaxvision.models.detection.two_stage.roi_heads import first_positives


@pytest.fixture(scope="module")
def network():
    """Its score threshold is low, so that without training there is something to suppress."""
    return Network("faster_rcnn", score_threshold=0.1, nms_threshold=0.3)


def test_predictions_do_not_see_the_ground_truth(network):
    batch = network.batch([example(2), example(3)])
    other = {**batch, **{name: network.batch([example(5), empty(6)])[name] for name in tasks.get(network.task).fields}}
    _, _, predictions = network.forward(network.variables, batch)
    _, _, same = network.forward(network.variables, other)
    assert predictions["valid"].any() and set(predictions) == {"boxes", "classes", "scores", "valid", "overflow"}
    for name, value in predictions.items():
        np.testing.assert_array_equal(same[name], value, err_msg=name)


def test_mask_rcnn_is_the_same_with_a_mask_head(network):
    """With one set of parameters the two say the same of boxes, in predictions and in losses."""
    masked = Network("mask_rcnn", score_threshold=0.1, nms_threshold=0.3)
    variables = {
        **masked.variables,
        "params": {name: part for name, part in masked.variables["params"].items() if name != "mask_head"},
    }
    assert jax.tree.structure(variables) == jax.tree.structure(network.variables)
    pictures = [example(2), example(3)]
    _, losses, predictions = network.forward(variables, network.batch(pictures))
    _, more, masks = masked.forward(masked.variables, masked.batch(pictures))
    assert set(masks) - set(predictions) == {"masks"} and set(more) - set(losses) == {"mask"}
    for name, value in predictions.items():
        np.testing.assert_allclose(masks[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
    for name, value in losses.items():
        np.testing.assert_allclose(more[name], value, rtol=1e-4, err_msg=name)


def test_proposals_of_low_objectness_are_dropped(network):
    batch = network.batch([example(2), example(3)])
    outputs, _, _ = network.forward(network.variables, batch)
    threshold = float(jax.nn.sigmoid(np.quantile(outputs["rpn_logits"], 0.999)))
    strict = architectures.create("faster_rcnn", num_classes=4, **{**TWO_STAGE, "rpn_score_threshold": threshold})
    few = jax.jit(strict.model.apply)(network.variables, {key: batch[key] for key in ("image", "image_size")})
    counts = few["proposals_valid"].sum(1)
    assert (counts < outputs["proposals_valid"].sum(1)).all() and counts.sum() > 0
    for image in range(2):
        for proposal in few["proposals"][image][few["proposals_valid"][image]]:
            assert (np.abs(outputs["proposals"][image] - proposal).max(1) < 1e-3).any()


def test_the_first_positives_and_how_many_lie_beyond():
    found = {"rois": np.arange(24.0).reshape(2, 3, 4), "roi_classes": np.array([[3, 1, 2], [1, 0, 0]])}
    rois, beyond = first_positives(found, 1)
    np.testing.assert_array_equal(rois, found["rois"][:, :1])
    np.testing.assert_array_equal(beyond, [2, 0])
    np.testing.assert_array_equal(first_positives(found, 10)[1], [0, 0])


LIGHT = dict(backbone="mobilenet_v3_large_fpn", anchor_sizes=((32, 64, 128, 256, 512),) * 3, roi_levels=("p5",))
SECOND = dict(rpn_convs=2, box_convs=(256,) * 4, box_fcs=1, norm="batch", fpn_norm="batch", head_norm="batch")


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("faster_rcnn", {}, 41_755_286),
        ("faster_rcnn", LIGHT, 19_386_354),
        ("faster_rcnn", SECOND, 43_712_278),
        ("mask_rcnn", SECOND, 46_359_409),
    ],
)
def test_sizes_are_torchvisions(name, options, count):
    """It does not count scale and bias of frozen BatchNorm, which the second versions have none of."""
    params = shapes(name, num_classes=91, **options)["params"]
    assert size(params) - (0 if options is SECOND else normalisation(params)) == count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rpn_conv": 2}, 'did you mean "rpn_convs"'),
        ({"mask_conv": ()}, 'did you mean "mask_convs"'),
        ({"options": {}}, "has no option 'options'"),
        ({"backbone": "mobilenet_v3_large_fpn"}, "p5 .. p7"),
        ({"backbone": "mobilenet_v3_tiny_fpn"}, "no trunk 'mobilenet_v3_tiny'"),
    ],
)
def test_mask_rcnns_options_are_its_own_and_faster_rcnns(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.create("mask_rcnn", num_classes=3, **options)
    with pytest.raises(ValueError, match="no option"):
        architectures.create("faster_rcnn", num_classes=3, mask_convs=())
