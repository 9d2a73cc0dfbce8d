"""Keypoint R-CNN."""

from jaxvision.interop.convert import Builder
from jaxvision.interop.two_stage import HEAD, LEGACY, V1

NAMES = [
    *V1,
    (r"^keypoint_head/conv(\d)", lambda m: f"roi_heads.keypoint_head.{2 * int(m[1])}"),
    (r"^keypoint_head\.logits_bias", "roi_heads.keypoint_predictor.kps_score_lowres.bias"),
    (r"^keypoint_head\.logits", "roi_heads.keypoint_predictor.kps_score_lowres.weight"),
]

BUILDERS = {
    "keypointrcnn_resnet50_fpn": Builder(
        "keypoint_rcnn",
        {"num_classes": 2, "norm": "frozen", "aligned": False},
        NAMES,
        flattened={r"^box_head/fc6\.weight": (7, 7)},
        head=HEAD,
        other_heads={"joints": [r"^keypoint_head\.logits"]},
        legacy=LEGACY,
    ),
}
