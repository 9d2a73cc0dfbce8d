"""Cards of torchvision's published weights: what a state dict does not say, and what its publishers measured.

Numbers and files are those of torchvision's own metadata (`torchvision/models/`, versions 0.14 to 0.28).
"""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxvision.interop.categories import COCO, COCO_PERSON, IMAGENET, VOC

RECIPES = "https://github.com/pytorch/vision/tree/main/references"
PULLS = "https://github.com/pytorch/vision/pull"
ISSUES = "https://github.com/pytorch/vision/issues"


@dataclasses.dataclass(frozen=True)
class Card:
    """Published weights.

    file: its published name without the suffix; the last eight digits begin the file's sha256.
    parameters: their number, without those of frozen norms. metrics: as published, in percent, on the set's validation part.
    source: address of the recipe. categories: names of the classes, in the order of the logits.
    resize: a rule of `jaxvision.preprocess`. mean, std: of RGB in 0..1.
    options: of the architecture, which the state dict does not say.
    """

    file: str
    parameters: int
    metrics: Mapping[str, float]
    source: str
    categories: Sequence[str]
    resize: Mapping
    options: Mapping = dataclasses.field(default_factory=dict)
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)

    @property
    def digits(self) -> str:
        """The first eight digits of the file's sha256."""
        return self.file[-8:]


def _classifier(file, parameters, top1, top5, source=f"{RECIPES}/classification", resize=256, **options) -> Card:
    metrics = {"top1": top1, "top5": top5}
    return Card(file, parameters, metrics, source, IMAGENET, {"resize": resize, "crop": 224}, options)


def _segmenter(file, parameters, mean_iu, pixel_accuracy, source) -> Card:
    metrics = {"mean_iu": mean_iu, "pixel_accuracy": pixel_accuracy}
    return Card(file, parameters, metrics, f"{RECIPES}/segmentation#{source}", VOC, {"resize": 520})


def _detector(file, parameters, metrics, source, sides=(800, 1333), categories=COCO, **options) -> Card:
    source = source if "://" in source else f"{RECIPES}/detection#{source}"
    return Card(file, parameters, metrics, source, categories, {"min_size": sides[0], "max_size": sides[1]}, options)


V1, VOC_V1, COCO_V1 = "IMAGENET1K_V1", "COCO_WITH_VOC_LABELS_V1", "COCO_V1"
V2 = dict(resize=232)
FROZEN = dict(norm="frozen:0")  # published before the norm's eps was 1e-5, and kept so
# name -> {card: Card}; the first card's rule of resizing also holds for weights without a card.
CARDS: dict[str, dict[str, Card]] = {
    "alexnet": {
        V1: _classifier("alexnet-owt-7be5be79", 61100840, 56.522, 79.066),
    },
    "vgg11": {V1: _classifier("vgg11-8a719046", 132863336, 69.020, 88.628)},
    "vgg13": {V1: _classifier("vgg13-19584684", 133047848, 69.928, 89.246)},
    "vgg16": {
        V1: _classifier("vgg16-397923af", 138357544, 71.592, 90.382),
        # SSD's trunk: Caffe's colours, and a classifier that was never trained.
        "IMAGENET1K_FEATURES": Card(
            "vgg16_features-amdegroot-88682ab5",
            138357544,
            {},
            "https://github.com/amdegroot/ssd.pytorch#training-ssd",
            (),
            {"resize": 256, "crop": 224},
            mean=(0.48235, 0.45882, 0.40784),
            std=(1 / 255,) * 3,
        ),
    },
    "vgg19": {V1: _classifier("vgg19-dcbb9e9d", 143667240, 72.376, 90.876)},
    "vgg11_bn": {V1: _classifier("vgg11_bn-6002323d", 132868840, 70.370, 89.810)},
    "vgg13_bn": {V1: _classifier("vgg13_bn-abd245e5", 133053736, 71.586, 90.374)},
    "vgg16_bn": {V1: _classifier("vgg16_bn-6c64b313", 138365992, 73.360, 91.516)},
    "vgg19_bn": {V1: _classifier("vgg19_bn-c79401a0", 143678248, 74.218, 91.842)},
    "resnet18": {V1: _classifier("resnet18-f37072fd", 11689512, 69.758, 89.078)},
    "resnet34": {V1: _classifier("resnet34-b627a593", 21797672, 73.314, 91.420)},
    "resnet50": {
        V1: _classifier("resnet50-0676ba61", 25557032, 76.130, 92.862),
        "IMAGENET1K_V2": _classifier("resnet50-11ad3fa6", 25557032, 80.858, 95.434, f"{ISSUES}/3995", **V2),
    },
    "resnet101": {
        V1: _classifier("resnet101-63fe2227", 44549160, 77.374, 93.546),
        "IMAGENET1K_V2": _classifier("resnet101-cd907fc2", 44549160, 81.886, 95.780, f"{ISSUES}/3995", **V2),
    },
    "resnet152": {
        V1: _classifier("resnet152-394f9c45", 60192808, 78.312, 94.046),
        "IMAGENET1K_V2": _classifier("resnet152-f82ba261", 60192808, 82.284, 96.002, f"{ISSUES}/3995", **V2),
    },
    "resnext50_32x4d": {
        V1: _classifier("resnext50_32x4d-7cdf4587", 25028904, 77.618, 93.698),
        "IMAGENET1K_V2": _classifier("resnext50_32x4d-1a0047aa", 25028904, 81.198, 95.340, f"{ISSUES}/3995", **V2),
    },
    "wide_resnet50_2": {
        V1: _classifier("wide_resnet50_2-95faca4d", 68883240, 78.468, 94.086, f"{PULLS}/912"),
        "IMAGENET1K_V2": _classifier("wide_resnet50_2-9ba9bcbe", 68883240, 81.602, 95.758, f"{ISSUES}/3995", **V2),
    },
    "googlenet": {V1: _classifier("googlenet-1378be20", 6624904, 69.778, 89.530, transform_input=True)},
    "squeezenet1_0": {V1: _classifier("squeezenet1_0-b66bff10", 1248424, 58.092, 80.420)},
    "squeezenet1_1": {V1: _classifier("squeezenet1_1-b8a52dc0", 1235496, 58.178, 80.624)},
    "mobilenet_v3_large": {
        V1: _classifier("mobilenet_v3_large-8738ca79", 5483032, 74.042, 91.340),
        "IMAGENET1K_V2": _classifier("mobilenet_v3_large-5c1a4163", 5483032, 75.274, 92.566, f"{ISSUES}/3995", **V2),
    },
    "mobilenet_v3_small": {V1: _classifier("mobilenet_v3_small-047dcff4", 2542856, 67.668, 87.402)},
    "fcn_resnet50": {VOC_V1: _segmenter("fcn_resnet50_coco-1167a1af", 35322218, 60.5, 91.4, "fcn_resnet50")},
    "fcn_resnet101": {VOC_V1: _segmenter("fcn_resnet101_coco-7ecb50ca", 54314346, 63.7, 91.9, "fcn_resnet101")},
    "deeplabv3_resnet50": {
        VOC_V1: _segmenter("deeplabv3_resnet50_coco-cd0a2569", 42004074, 66.4, 92.4, "deeplabv3_resnet50")
    },
    "deeplabv3_resnet101": {
        VOC_V1: _segmenter("deeplabv3_resnet101_coco-586e9e4e", 60996202, 67.4, 92.4, "deeplabv3_resnet101")
    },
    "deeplabv3_mobilenet_v3_large": {
        VOC_V1: _segmenter(
            "deeplabv3_mobilenet_v3_large-fc3c493d", 11029328, 60.3, 91.2, "deeplabv3_mobilenet_v3_large"
        )
    },
    "lraspp_mobilenet_v3_large": {
        VOC_V1: _segmenter("lraspp_mobilenet_v3_large-d234d4ea", 3221538, 57.9, 91.2, "lraspp_mobilenet_v3_large")
    },
    "fasterrcnn_resnet50_fpn": {
        COCO_V1: _detector(
            "fasterrcnn_resnet50_fpn_coco-258fb6c6",
            41755286,
            {"box/AP": 37.0},
            "faster-r-cnn-resnet-50-fpn",
            **FROZEN,
        )
    },
    "fasterrcnn_resnet50_fpn_v2": {
        COCO_V1: _detector("fasterrcnn_resnet50_fpn_v2_coco-dd69338a", 43712278, {"box/AP": 46.7}, f"{PULLS}/5763")
    },
    "fasterrcnn_mobilenet_v3_large_fpn": {
        COCO_V1: _detector(
            "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7",
            19386354,
            {"box/AP": 32.8},
            "faster-r-cnn-mobilenetv3-large-fpn",
        )
    },
    "fasterrcnn_mobilenet_v3_large_320_fpn": {
        COCO_V1: _detector(
            "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9",
            19386354,
            {"box/AP": 22.8},
            "faster-r-cnn-mobilenetv3-large-320-fpn",
            (320, 640),
        )
    },
    "maskrcnn_resnet50_fpn": {
        COCO_V1: _detector(
            "maskrcnn_resnet50_fpn_coco-bf2d0c1e",
            44401393,
            {"box/AP": 37.9, "mask/AP": 34.6},
            "mask-r-cnn",
            **FROZEN,
        )
    },
    "maskrcnn_resnet50_fpn_v2": {
        COCO_V1: _detector(
            "maskrcnn_resnet50_fpn_v2_coco-73cbd019", 46359409, {"box/AP": 47.4, "mask/AP": 41.8}, f"{PULLS}/5773"
        )
    },
    "keypointrcnn_resnet50_fpn": {
        COCO_V1: _detector(
            "keypointrcnn_resnet50_fpn_coco-fc266e95",
            59137258,
            {"box/AP": 54.6, "keypoint/AP": 65.0},
            "keypoint-r-cnn",
            categories=COCO_PERSON,
            **FROZEN,
        ),
        # Of an epoch too early; its norms have torch's eps.
        "COCO_LEGACY": _detector(
            "keypointrcnn_resnet50_fpn_coco-9f466800",
            59137258,
            {"box/AP": 50.6, "keypoint/AP": 61.1},
            f"{ISSUES}/1606",
            categories=COCO_PERSON,
        ),
    },
    "retinanet_resnet50_fpn": {
        COCO_V1: _detector("retinanet_resnet50_fpn_coco-eeacb38b", 34014999, {"box/AP": 36.4}, "retinanet", **FROZEN)
    },
    "retinanet_resnet50_fpn_v2": {
        COCO_V1: _detector("retinanet_resnet50_fpn_v2_coco-5905b1c5", 38198935, {"box/AP": 41.5}, f"{PULLS}/5756")
    },
    "fcos_resnet50_fpn": {
        COCO_V1: _detector("fcos_resnet50_fpn_coco-99b0c9b7", 32269600, {"box/AP": 39.2}, "fcos-resnet-50-fpn")
    },
    "ssd300_vgg16": {
        COCO_V1: Card(
            "ssd300_vgg16_coco-b556d3b4",
            35641826,
            {"box/AP": 25.1},
            f"{RECIPES}/detection#ssd300-vgg16",
            COCO,
            {"stretch": (300, 300)},
            mean=(0.48235, 0.45882, 0.40784),
            std=(1 / 255,) * 3,
        )
    },
    "ssdlite320_mobilenet_v3_large": {
        COCO_V1: Card(
            "ssdlite320_mobilenet_v3_large_coco-a79551df",
            3440060,
            {"box/AP": 21.3},
            f"{RECIPES}/detection#ssdlite320-mobilenetv3-large",
            COCO,
            {"stretch": (320, 320)},
            {"reduce_tail": True},
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
        )
    },
}


def published(digits: str) -> tuple[str, str] | None:
    """(builder, card) of the file whose sha256 begins with these eight digits, or None."""
    return next(
        ((name, card) for name, cards in CARDS.items() for card, facts in cards.items() if facts.digits == digits), None
    )
