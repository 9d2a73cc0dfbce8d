import pytest

from jaxvision import create
from jaxvision.explain.receptive_field import receptive_field


def added_up(layers):
    """The field of a chain of (kernel, stride), by arithmetic."""
    field, step = 1, 1
    for kernel, stride in layers:
        field, step = field + (kernel - 1) * step, step * stride
    return field


BLOCKS = {2: [(3, 1)] * 2 + [(2, 2)], 3: [(3, 1)] * 3 + [(2, 2)]}


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5])
def test_of_vgg16_it_is_what_its_layers_add_up_to(blocks):
    layers = [layer for depth in (2, 2, 3, 3, 3)[:blocks] for layer in BLOCKS[depth]]
    vgg = create("fcn8s", num_classes=3, widths=(4, 4, 4, 4, 4), fc=4)
    assert receptive_field(vgg, f"c{blocks}", (300, 260)) == (added_up(layers),) * 2


def test_a_pool_with_switches_sees_as_far_as_one_without():
    layers = [layer for depth in (2, 2, 3) for layer in BLOCKS[depth]]
    deconvnet = create("deconvnet", num_classes=2, widths=(2,) * 5, fc=2, fc6_kernel=2)
    assert receptive_field(deconvnet, "c3", (128, 96)) == (added_up(layers),) * 2


def test_of_resnet_with_its_stem_and_strides():
    resnet = create(
        "resnet", num_classes=3, depths=(2, 1, 1, 1), widths=(4, 4, 4, 4), trunk_name="resnet18", stem_width=4
    )
    stem = [(7, 2), (3, 2)]
    c2 = stem + [(3, 1)] * 4
    assert receptive_field(resnet, "c2", (160, 160)) == (added_up(c2),) * 2
    assert receptive_field(resnet, "c3", (192, 192)) == (added_up(c2 + [(3, 2), (3, 1)]),) * 2


def test_dilation_widens_it():
    options = dict(
        num_classes=3, depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), backbone="resnet50", stem="stride", stem_width=4
    )
    fields = {stride: receptive_field(create("deeplabv3", output_stride=stride, **options), "c5") for stride in (8, 32)}
    assert fields[8] == fields[32]  # which is what dilation is for: the field of the strides that it replaces


def test_what_cannot_be_measured_is_said():
    fcn = create("fcn32s", num_classes=3, widths=(4, 4, 4, 4, 4), fc=4)
    with pytest.raises(ValueError, match=r"no map 'c6'; there are c1, .*logits"):
        receptive_field(fcn, "c6", (64, 64))
    with pytest.raises(ValueError, match="border of 64 x 64 pixels"):
        receptive_field(fcn, "c5", (64, 64))
