"""Faster, Mask and Keypoint R-CNN."""

from jaxvision.interop.classifiers import RESNET_TRUNK
from jaxvision.interop.convert import Builder
from jaxvision.interop.mobilenet import MOBILENET_V3_LARGE

UPSAMPLE = (  # ConvTranspose2d (in, out, 2, 2) is here a matrix (in, 2 2 out)
    lambda w: w.transpose(0, 2, 3, 1).reshape(len(w), -1),
    lambda w: w.reshape(len(w), 2, 2, -1).transpose(0, 3, 1, 2),
)


def _names(trunk: list, lowest: int) -> list:
    """Of a trunk's names, and of what is built on it; lowest: number of the finest map that the pyramid starts from."""

    def block(kind: str, layer: int):
        return lambda m: f"backbone.fpn.{kind}_blocks.{int(m[1]) - lowest}.{layer}."

    return [
        *trunk,
        (r"^trunk/", "backbone.body."),
        (r"^fpn/lateral_c(\d)_norm\.", block("inner", 1)),
        (r"^fpn/output_c(\d)_norm\.", block("layer", 1)),
        (r"^fpn/lateral_c(\d)\.", block("inner", 0)),
        (r"^fpn/output_c(\d)\.", block("layer", 0)),
        (r"^rpn/conv(\d)", r"rpn.head.conv.\1.0"),
        (r"^rpn/logits", "rpn.head.cls_logits"),
        (r"^rpn/deltas", "rpn.head.bbox_pred"),
        (r"^box_head/logits", "roi_heads.box_predictor.cls_score"),
        (r"^box_head/deltas", "roi_heads.box_predictor.bbox_pred"),
        (r"^box_head/fc", "roi_heads.box_head.fc"),
        (r"^mask_head/conv(\d)", r"roi_heads.mask_head.\1.0"),
        (r"^mask_head/norm(\d)", r"roi_heads.mask_head.\1.1"),
        (r"^mask_head/upsample", "roi_heads.mask_predictor.conv5_mask"),
        (r"^mask_head\.upsample_bias", "roi_heads.mask_predictor.conv5_mask.bias"),
        (r"^mask_head/logits", "roi_heads.mask_predictor.mask_fcn_logits"),
    ]


V1 = _names(RESNET_TRUNK, 2)
V2 = [  # four convolutions, a flattening, one dense layer
    (r"^box_head/conv(\d)", r"roi_heads.box_head.\1.0"),
    (r"^box_head/norm(\d)", r"roi_heads.box_head.\1.1"),
    (r"^box_head/fc6", "roi_heads.box_head.5"),
    *V1,
]
MOBILENET = _names(MOBILENET_V3_LARGE, 5)
LEGACY = [
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
    (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2"),
    (r"mask_head\.mask_fcn(\d)\.", lambda m: f"mask_head.{int(m[1]) - 1}.0."),
]
HEAD = [r"^box_head/(logits|deltas)\.", r"^mask_head/logits\."]
SECOND = dict(rpn_convs=2, box_convs=(256,) * 4, box_fcs=1, norm="batch", fpn_norm="batch", head_norm="batch")
LIGHT = dict(
    backbone="mobilenet_v3_large_fpn",
    anchor_sizes=((32, 64, 128, 256, 512),) * 3,
    roi_levels=("p5",),
    rpn_score_threshold=0.05,
)


def _builder(architecture: str, names, **options) -> Builder:
    return Builder(
        architecture,
        {"num_classes": 91, "aligned": False, **options},
        names,
        flattened={r"^box_head/fc6\.weight": (7, 7)},
        layouts={r"^mask_head/upsample\.weight": UPSAMPLE},
        head=HEAD,
        legacy=LEGACY,
    )


BUILDERS = {
    "fasterrcnn_mobilenet_v3_large_fpn": _builder("faster_rcnn", MOBILENET, **LIGHT),
    "fasterrcnn_mobilenet_v3_large_320_fpn": _builder(
        "faster_rcnn", MOBILENET, **LIGHT, pre_nms=(2000, 150), post_nms=(2000, 150)
    ),
    "fasterrcnn_resnet50_fpn": _builder("faster_rcnn", V1),
    "fasterrcnn_resnet50_fpn_v2": _builder("faster_rcnn", V2, **SECOND),
    "maskrcnn_resnet50_fpn": _builder("mask_rcnn", V1),
    "maskrcnn_resnet50_fpn_v2": _builder("mask_rcnn", V2, **SECOND),
}
