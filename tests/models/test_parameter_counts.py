"""Sizes as published, from shapes alone: nothing is initialised."""

import jax
import pytest
from small import shapes


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def normalisation(params) -> int:
    """Scales and biases of normalisation layers."""
    leaves = jax.tree.leaves_with_path(params)
    return sum(leaf.size for path, leaf in leaves if jax.tree_util.keystr(path[-2:-1], simple=True) == "norm")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("resnext50_32x4d", 25_028_904),
        ("wide_resnet50_2", 68_883_240),
    ],
)
def test_resnets_are_torchvisions(name, count):
    variables = shapes("resnet", num_classes=1000, trunk_name=name)
    assert size(variables["params"]) == count
    assert size(variables["batch_stats"]) == normalisation(variables["params"])  # a mean and a variance for each pair


def test_mask_rcnn_is_torchvisions():
    """torchvision's maskrcnn_resnet50_fpn has 44,401,393 parameters. Scale and bias of its frozen BatchNorm are buffers
    there and so not counted; here they are parameters, which the optimiser's `trainable` pattern holds."""
    params = shapes("mask_rcnn", num_classes=91)["params"]
    assert normalisation(params) == 53_120
    assert size(params) - normalisation(params) == 44_401_393
    trunk = size(params["trunk"]) - normalisation(params["trunk"])
    assert trunk == 25_557_032 - 53_120 - (2048 * 1000 + 1000)  # ResNet-50 without its classifier
    assert size(params["fpn"]) == (256 + 512 + 1024 + 2048) * 256 + 4 * 256 + 4 * (9 * 256 * 256 + 256)
    assert size(params["rpn"]) == 9 * 256 * 256 + 256 + 3 * (256 + 1) + 12 * (256 + 1)
    assert size(params["box_head"]) == 49 * 256 * 1024 + 1024 + 1025 * 1024 + 1025 * 91 + 1025 * 364
    assert size(params["mask_head"]) == 4 * (9 * 256 * 256 + 256) + 4 * 256 * 256 + 256 + 257 * 91


VGG16 = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
VGG16 += [(256, 512)] + [(512, 512)] * 5


@pytest.mark.parametrize(("name", "skips"), [("fcn32s", ()), ("fcn16s", (512,)), ("fcn8s", (512, 256))])
def test_fcns_are_the_papers(name, skips):
    """134 M, as the paper's table 1 has it: VGG16's convolutions, fc6 and fc7 as convolutions, a score layer for each map
    that is scored, and a learned 4 x 4 upsampling before each skip; the last upsampling is fixed."""
    convolutions = sum((9 * i + 1) * o for i, o in VGG16)
    assert convolutions == 14_714_688
    fully = (49 * 512 + 1) * 4096 + (4096 + 1) * 4096
    scores = sum((channels + 1) * 21 for channels in (4096, *skips))
    upsampling = len(skips) * 4 * 4 * 21 * 21
    params = shapes(name, canvas=(224, 224), num_classes=21)["params"]
    assert size(params) == convolutions + fully + scores + upsampling
    assert {"fcn32s": 134_346_581, "fcn16s": 134_364_410, "fcn8s": 134_376_863}[name] == size(params)
    learned = shapes(name, canvas=(224, 224), num_classes=21, deconv="learned")["params"]
    assert size(learned) - size(params) == {"fcn32s": 64, "fcn16s": 32, "fcn8s": 16}[name] ** 2 * 21 * 21
    fixed = shapes(name, canvas=(224, 224), num_classes=21, deconv="fixed")["params"]
    assert size(fixed) == size(params) - upsampling


@pytest.mark.parametrize(("backbone", "millions"), [("alexnet", 57), ("vgg16", 134), ("googlenet", 6)])
def test_trunks_of_fcn_have_the_papers_size(backbone, millions):
    """Table 1 of the paper, FCN-32s; their GoogLeNet has 5x5 convolutions and no BatchNorm."""
    params = shapes("fcn32s", num_classes=21, backbone=backbone, canvas=(128, 128))["params"]
    assert round(size(params) / 1e6) == millions


def test_unet_is_the_papers():
    """Figure 1: 23 convolutions, 64 to 1024 channels and back; here on colours. With one grey channel and two classes that
    is the 31,030,658 which ports of the authors' network have."""
    widths = (64, 128, 256, 512, 1024)
    params = shapes("unet", num_classes=2)["params"]

    def pair(inputs, width):
        return 9 * inputs * width + width + 9 * width * width + width

    down = sum(pair(i, o) for i, o in zip((3, *widths), widths))
    up = sum(4 * 2 * o * o + o + pair(2 * o, o) for o in widths[:-1])
    assert size(params) == down + up + 65 * 2 == 31_030_658 + 2 * 9 * 64


def test_deeplabv3plus_is_the_authors():
    """On Xception-65 with VOC's classes 41,258,213 values, running statistics among them, as ports of the authors' weights
    to Keras count them."""
    variables = shapes("deeplabv3plus", num_classes=21, canvas=(65, 65))
    assert size(variables) == 41_258_213
    assert size(variables["batch_stats"]) == normalisation(variables["params"])


def test_deconvnet_is_the_papers():
    """About 252 M: VGG16 twice, fc6 and its mirror image of 49 x 512 x 4096 each, fc7, and VOC's scores."""
    params = shapes("deconvnet", num_classes=21, canvas=(224, 224))["params"]
    down = sum(9 * i * o for i, o in VGG16)
    up = sum(9 * i * o for i, o in VGG16[1:]) + 9 * 64 * 64  # the last stays at 64 channels, not 3
    fully = 2 * 49 * 512 * 4096 + 4096 * 4096
    assert size(params) - normalisation(params) == down + up + fully + 65 * 21
    assert size(params) == 251_788_949


def test_rcnn_is_its_trunk_and_what_is_fitted():
    """AlexNet and VGG16 without their scores, as torchvision counts them, then 21 scores, 20 SVMs and 20 x 4 regressions."""
    heads = 4096 * 21 + 21 + 20 * 4097
    alexnet = shapes("rcnn", num_classes=21, canvas=(64, 64))["params"]
    assert size(alexnet) == 61_100_840 - 4097 * 1000 + heads + 80 * (6 * 6 * 256 + 1)
    vgg = shapes("rcnn", num_classes=21, canvas=(64, 64), trunk="vgg16", side=224)["params"]
    assert size(vgg) == 138_357_544 - 4097 * 1000 + heads + 80 * (7 * 7 * 512 + 1)


def test_sppnet_is_the_papers():
    """ZF-5, and windows of 50 bins of 256 channels, 12,800 numbers; 5,376 with the levels 4, 2 and 1."""
    zf = sum(k * k * i * o + o for k, i, o in ((7, 3, 96), (5, 96, 256), (3, 256, 384), (3, 384, 384), (3, 384, 256)))
    heads = 4096 * 4096 + 4096 + 4096 * 21 + 21 + 20 * 4097
    for levels, features in (((1, 2, 3, 6), 12_800), ((4, 2, 1), 5_376)):
        params = shapes("sppnet", num_classes=21, canvas=(128, 128), levels=levels)["params"]
        assert params["fc6"]["kernel"].shape == (features, 4096)
        assert size(params) == zf + features * 4096 + 4096 + heads + 80 * (features + 1)
