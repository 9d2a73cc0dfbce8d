import jax
import numpy as np
import pytest
from small import create, shapes

from jaxvision import architecture as architectures
from jaxvision.layers.aspp import ASPP, covered_mean
from jaxvision.models.segmentation.segmenter import covered_cells, dilated_trunk

RNG = np.random.default_rng(0)


def sizes(**options):
    """{name: (height, width, channels)} of an image of 64 x 96."""
    architecture = architectures.create("deeplabv3", num_classes=5, aux=True, **options)
    batch = {"image": np.zeros((1, 64, 96, 3), np.uint8), "image_size": np.array([[64, 96]], np.int32)}
    outputs, _ = jax.eval_shape(lambda: architecture.model.init_with_output(jax.random.key(0), batch))
    return {name: value.shape[1:] for name, value in outputs.items()}


def test_maps_of_each_output_stride():
    narrow = {"depths": (1, 1, 1, 1), "widths": (4, 8, 16, 32)}
    for stride, c4 in ((8, 8), (16, 16), (32, 16)):
        found = sizes(output_stride=stride, **narrow)
        assert found["c4"] == (64 // c4, 96 // c4, 64) and found["c5"] == (64 // stride, 96 // stride, 128)
        assert found["logits"] == found["aux_logits"] == (64, 96, 5)
    assert sizes(**narrow) == sizes(output_stride=8, **narrow)
    found = sizes(backbone="mobilenet_v3_small", width=0.5)
    assert found["c3"] == (8, 12, 16) and found["final"] == (4, 6, 288)
    assert found["logits"] == found["aux_logits"] == (64, 96, 5)


def test_the_auxiliary_head_counts_half_and_needs_no_training():
    architecture = create("deeplabv3")
    assert architecture.weights == {"aux": 0.5} and not create("deeplabv3", aux=False).weights
    outputs = {name: RNG.normal(size=(2, 4, 4, 4)).astype(np.float32) for name in ("logits", "aux_logits")}
    batch = {"semantic": RNG.integers(0, 4, (2, 4, 4))}
    losses = architecture.losses(outputs, batch)
    assert losses.keys() == {"pixel", "aux"}
    for term, name in (("pixel", "logits"), ("aux", "aux_logits")):
        wanted = -np.take_along_axis(jax.nn.log_softmax(outputs[name]), batch["semantic"][..., None], -1).sum()
        np.testing.assert_allclose(losses[term][0], wanted, rtol=1e-5)
    assert architecture.losses({"logits": outputs["logits"]}, batch).keys() == {"pixel"}
    assert "aux" not in shapes("deeplabv3", num_classes=4, backbone="resnet50", depths=(1, 1, 1, 1))["params"]


def test_cells_of_an_image_are_as_many_as_it_has_alone():
    covered = covered_cells(np.array([[65, 81], [96, 96], [1, 8]], np.int32), (96, 96), (12, 12))
    assert [(int(c[:, 0].sum()), int(c[0].sum())) for c in np.array(covered)] == [(9, 11), (12, 12), (1, 1)]
    assert np.array(covered).sum((1, 2)).tolist() == [99, 144, 1]
    # A canvas of odd sides gives one cell more than a whole number.
    assert np.array(covered_cells(np.array([[65, 81]]), (65, 81), (9, 11))).all()


def test_the_pooled_branch_sees_the_image_and_not_what_lies_beside_it():
    x = RNG.normal(size=(1, 6, 6, 3)).astype(np.float32)
    covered = np.zeros((1, 6, 6), bool)
    covered[:, :4, :3] = True
    np.testing.assert_allclose(covered_mean(x, covered)[0, 0, 0], x[0, :4, :3].mean((0, 1)), rtol=1e-5)
    assert (np.array(covered_mean(x, ~covered & covered)) == 0).all()
    layer = ASPP(4, rates=(1,), norm="none")
    variables = jax.jit(layer.init)(jax.random.key(0), x, covered)
    other = np.where(covered[..., None], x, 9)
    first, second = (layer.apply(variables, values, covered) for values in (x, other))
    np.testing.assert_allclose(first[:, :3, :2], second[:, :3, :2], atol=1e-6)  # the 3x3 reaches no further
    assert np.abs(layer.apply(variables, other, np.ones_like(covered)) - second).max() > 1e-3


def test_strides_and_options_of_another_trunk_are_errors():
    with pytest.raises(ValueError, match="output_stride of resnet50 is one of 8, 16, 32, not 4"):
        dilated_trunk("resnet50", 4)
    with pytest.raises(ValueError, match="output_stride of mobilenet_v3_large is one of 16, 32, not 8"):
        dilated_trunk("mobilenet_v3_large", 8)
    with pytest.raises(ValueError, match="'mobilenet_v3_large' has no option depths, widths"):
        dilated_trunk("mobilenet_v3_large", None, depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), stem=None)
    with pytest.raises(ValueError, match="'resnet50' has no option width"):
        dilated_trunk("resnet50", None, width=0.5)
    with pytest.raises(ValueError, match="no trunk 'resnet51'"):
        architectures.create("deeplabv3", num_classes=2, backbone="resnet51")
