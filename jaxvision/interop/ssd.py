"""SSD300 and SSDlite320."""

from jaxvision.interop.convert import Builder

VGG = {1: 0, 2: 5, 3: 10, 4: 17}  # block -> the index of its first convolution in VGG-16's features
SSD300 = [
    (r"^trunk/block5/conv(\d)", lambda m: f"backbone.extra.0.{2 * int(m[1]) + 1}"),
    (r"^trunk/block(\d)/conv(\d)", lambda m: f"backbone.features.{VGG[int(m[1])] + 2 * int(m[2])}"),
    (r"^trunk\.conv4_scale", "backbone.scale_weight"),
    (r"^trunk/fc6/conv", "backbone.extra.0.7.1"),
    (r"^trunk/fc7/conv", "backbone.extra.0.7.3"),
    (r"^extras/reduce(\d)/conv", r"backbone.extra.\1.0"),
    (r"^extras/expand(\d)/conv", r"backbone.extra.\1.2"),
    (r"^class_head/level", "head.classification_head.module_list."),
    (r"^box_head/level", "head.regression_head.module_list."),
]
BUILDERS = {
    "ssd300_vgg16": Builder("ssd", {"num_classes": 91}, SSD300, head=[r"^class_head/"]),
}
