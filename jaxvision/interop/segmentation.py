"""torchvision's segmenters."""

from jaxvision.interop.classifiers import RESNET_TRUNK
from jaxvision.interop.convert import Builder
from jaxvision.interop.mobilenet import MOBILENET_V3_LARGE

BACKBONE = [("^trunk/", "backbone.")]
ASPP = [
    (r"^head/aspp/conv(\d)_norm", r"classifier.0.convs.\1.1"),
    (r"^head/aspp/conv(\d)", r"classifier.0.convs.\1.0"),
    ("^head/aspp/pool_norm", "classifier.0.convs.4.2"),
    ("^head/aspp/pool", "classifier.0.convs.4.1"),
    ("^head/aspp/project_norm", "classifier.0.project.1"),
    ("^head/aspp/project", "classifier.0.project.0"),
    ("^head/conv_norm", "classifier.2"),
    ("^head/conv", "classifier.1"),
    ("^head/logits", "classifier.4"),
]
FCN_HEADS = [
    (f"^{ours}/{layer}", f"{theirs}.{i}")
    for ours, theirs in (("head", "classifier"), ("aux", "aux_classifier"))
    for layer, i in (("conv_norm", 1), ("conv", 0), ("logits", 4))
]
LRASPP = [
    ("^conv_norm", "classifier.cbr.1"),
    ("^conv", "classifier.cbr.0"),
    ("^gate", "classifier.scale.1"),
    (r"^(low|high)\.", r"classifier.\1_classifier."),
]


def _segmenter(architecture: str, backbone: str, names: list) -> Builder:
    return Builder(
        architecture,
        {"num_classes": 21, "backbone": backbone},
        names,
        head=[r"^(head|aux)/logits\."],
        optional={"aux": r"^aux_classifier\."},
    )


BUILDERS = {
    **{
        f"{short}_{backbone}": _segmenter(architecture, backbone, [*RESNET_TRUNK, *BACKBONE, *heads])
        for backbone in ("resnet50", "resnet101")
        for short, architecture, heads in (
            ("fcn", "fcn_resnet", FCN_HEADS),
            ("deeplabv3", "deeplabv3", ASPP + FCN_HEADS),
        )
    },
    "deeplabv3_mobilenet_v3_large": _segmenter(
        "deeplabv3", "mobilenet_v3_large", [*MOBILENET_V3_LARGE, *BACKBONE, *ASPP, *FCN_HEADS]
    ),
    "lraspp_mobilenet_v3_large": Builder(
        "lraspp", {"num_classes": 21}, [*MOBILENET_V3_LARGE, *BACKBONE, *LRASPP], head=[r"^(low|high)\."]
    ),
}
