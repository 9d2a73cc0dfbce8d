"""RetinaNet and FCOS."""

from jaxvision.interop.classifiers import RESNET_TRUNK
from jaxvision.interop.convert import Builder
from jaxvision.interop.two_stage import LEGACY

PYRAMID = [
    *RESNET_TRUNK,
    (r"^trunk/", "backbone.body."),
    (r"^fpn/lateral_c(\d)", lambda m: f"backbone.fpn.inner_blocks.{int(m[1]) - 3}.0"),
    (r"^fpn/output_c(\d)", lambda m: f"backbone.fpn.layer_blocks.{int(m[1]) - 3}.0"),
    (r"^fpn/extra_", "backbone.fpn.extra_blocks."),
    (r"^class_head/", "head.classification_head."),
    (r"^box_head/", "head.regression_head."),
    (r"_head\.logits", "_head.cls_logits"),
    (r"_head\.deltas", "_head.bbox_reg"),
    (r"_head\.centerness", "_head.bbox_ctrness"),
]
RETINANET = [
    *PYRAMID,
    (r"_head\.conv(\d)", r"_head.conv.\1.0"),
    (r"_head\.norm(\d)", r"_head.conv.\1.1"),
]
FCOS = [
    *PYRAMID,
    (r"_head\.conv(\d)", lambda m: f"_head.conv.{3 * int(m[1])}"),
    (r"_head\.norm(\d)", lambda m: f"_head.conv.{3 * int(m[1]) + 1}"),
]
SEQUENCE = (r"(_head\.conv)\.([0246])\.(weight|bias)$", lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}")
HEAD = [r"^class_head/logits\."]
TORCHVISION = {"num_classes": 91, "first_class": 0}

BUILDERS = {
    "retinanet_resnet50_fpn": Builder("retinanet", TORCHVISION, RETINANET, head=HEAD, legacy=[*LEGACY, SEQUENCE]),
    "retinanet_resnet50_fpn_v2": Builder(
        "retinanet",
        {**TORCHVISION, "norm": "batch", "extra": "c5", "head_norm": "group", "box_loss": "giou"},
        RETINANET,
        head=HEAD,
        legacy=LEGACY,
    ),
    "fcos_resnet50_fpn": Builder("fcos", TORCHVISION, FCOS, head=HEAD, legacy=LEGACY),
}
