"""SSD300 and SSDlite320."""

from jaxvision.interop.convert import Builder
from jaxvision.interop.mobilenet import MOBILENET_V3_LARGE

VGG = {1: 0, 2: 5, 3: 10, 4: 17}  # block -> the index of its first convolution in VGG-16's features
HEADS = [
    (r"^class_head/level", "head.classification_head.module_list."),
    (r"^box_head/level", "head.regression_head.module_list."),
]
SSD300 = [
    (r"^trunk/block5/conv(\d)", lambda m: f"backbone.extra.0.{2 * int(m[1]) + 1}"),
    (r"^trunk/block(\d)/conv(\d)", lambda m: f"backbone.features.{VGG[int(m[1])] + 2 * int(m[2])}"),
    (r"^trunk\.conv4_scale", "backbone.scale_weight"),
    (r"^trunk/fc6/conv", "backbone.extra.0.7.1"),
    (r"^trunk/fc7/conv", "backbone.extra.0.7.3"),
    (r"^extras/reduce(\d)/conv", r"backbone.extra.\1.0"),
    (r"^extras/expand(\d)/conv", r"backbone.extra.\1.2"),
    *HEADS,
]
EXTRA = {"reduce": "0", "depthwise": "1", "expand": "2", "conv": "0", "norm": "1"}
SSDLITE320 = [
    *MOBILENET_V3_LARGE,
    # The trunk is cut inside its 13th block, behind the expansion.
    (r"^trunk/13\.block\.0\.", "backbone.features.0.13."),
    (r"^trunk/13\.block\.", "backbone.features.1.0."),
    (r"^trunk/1([456])\.", lambda m: f"backbone.features.1.{int(m[1]) - 3}."),
    (r"^trunk/", "backbone.features.0."),
    (r"^extras/([a-z]+)(\d)/([a-z]+)", lambda m: f"backbone.extra.{int(m[2]) - 1}.{EXTRA[m[1]]}.{EXTRA[m[3]]}"),
    (r"^(\w+_head)/depthwise(\d)/([a-z]+)", lambda m: f"{m[1]}/level{m[2]}.0.{EXTRA[m[3]]}"),
    (r"^(\w+_head)/level(\d)(?=\.\D)", r"\1/level\2.1"),
    *HEADS,
]
BUILDERS = {
    "ssd300_vgg16": Builder("ssd", {"num_classes": 91}, SSD300, head=[r"^class_head/"]),
    "ssdlite320_mobilenet_v3_large": Builder("ssdlite", {"num_classes": 91}, SSDLITE320, head=[r"^class_head/level"]),
}
