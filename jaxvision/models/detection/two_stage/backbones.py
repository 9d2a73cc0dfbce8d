"""The forms in which two-stage detectors were published: what their maps and regions pass, and their usual options."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn

from jaxvision.layers.fpn import FPN
from jaxvision.models.backbones import mobilenet_v3, resnet, vgg
from jaxvision.models.detection.two_stage.roi_stage import RoIStage

_SINGLE = dict(  # Ren et al., NeurIPS 2015, and their code
    norm="frozen",
    rpn_features=512,
    pre_nms=(12000, 6000),
    post_nms=(2000, 300),
    rpn_min_side=16,
    border_anchors=False,
    box_beta=1.0,
)
FORMS = {
    "vgg": dict(  # the same
        _SINGLE,
        norm="none",
        anchor_sizes=((128, 256, 512),),
        samples=128,
        roi_op="pool",
        box_features=4096,
        box_fcs=2,
        dropout=0.5,
        nms_threshold=0.3,
    ),
    "c4": dict(  # He et al., ICCV 2017
        _SINGLE,
        anchor_sizes=((32, 64, 128, 256, 512),),
        samples=64,
        roi_op="align",
        box_features=1024,
        box_fcs=0,
        dropout=0.0,
        nms_threshold=0.5,
    ),
    "fpn": dict(  # Lin et al., CVPR 2017, as torchvision has it
        norm="frozen",
        anchor_sizes=((32,), (64,), (128,), (256,), (512,)),
        rpn_features=None,
        pre_nms=(2000, 1000),
        post_nms=(2000, 1000),
        rpn_min_side=1e-3,
        border_anchors=True,
        samples=512,
        roi_op="align",
        box_beta=1 / 9,
        box_features=1024,
        box_fcs=2,
        dropout=0.0,
        nms_threshold=0.5,
    ),
}


def form(backbone: str) -> str:
    """Which of `FORMS` a backbone's name is of. Raises ValueError for a name of none."""
    if backbone in vgg.DEPTHS:
        return "vgg"
    name, _, suffix = backbone.rpartition("_")
    if not name or suffix not in ("c4", "fpn"):
        raise ValueError(
            f'backbone {backbone!r} should read "resnet50_fpn", "resnet50_c4" or another trunk with "_fpn" or "_c4", or "vgg16".'
        )
    return suffix


@dataclasses.dataclass(frozen=True)
class Backbone:
    """Fields of `RegionDetector`, and the strides of `roi_levels`."""

    trunk: nn.Module
    fpn: FPN | None
    stage: RoIStage | None
    trunk_maps: Sequence[str]
    roi_levels: Sequence[str]
    strides: Sequence[int]

    def levels(self) -> tuple[str, ...]:
        """The maps that may have anchors: the pyramid's and one above it, or the single one."""
        if self.fpn is None:
            return tuple(self.trunk_maps)
        lowest = int(self.fpn.levels[0][1:])
        return tuple(f"p{lowest + i}" for i in range(len(self.fpn.levels) + 1))


def backbone(
    name: str,
    *,
    overrides: Mapping[str, Any],
    fpn: int = 256,
    fpn_norm: str = "none",
    roi_levels: Sequence[str] | None = None,
    stage_stride: int = 1,
    stage_norm: str | None = None,
    **shared,
) -> Backbone:
    """What the backbone of that name consists of.

    overrides: of the trunk's `block`, `depths`, `widths`, `stem`, `stem_width`; None is what the name stands for.
    fpn, fpn_norm, roi_levels: of the form "fpn". stage_stride, stage_norm: of "c4". shared: norm, axis, remat, dtype.
    Raises ValueError for an unknown name, and roi_levels where there is no pyramid.
    """
    kind, given = form(name), {k: v for k, v in overrides.items() if v is not None}
    if roi_levels is not None and kind != "fpn":
        raise ValueError(f"roi_levels {tuple(roi_levels)} are of a pyramid, and {name!r} has none.")
    if kind == "vgg":
        fields = {"depths": vgg.DEPTHS[name], "widths": vgg.VGG16[1]} | given
        fields = {key: tuple(fields[key]) for key in ("depths", "widths")}
        trunk, last = vgg.VGG(**fields, **shared, bias=True, last_pool=False), len(fields["widths"])
        return Backbone(trunk, None, None, (f"c{last}",), (f"c{last}",), (2 ** (last - 1),))
    name = name.removesuffix(f"_{kind}")
    if name in mobilenet_v3.TRUNKS and kind == "fpn":
        trunk, maps, levels = mobilenet_v3.trunk(name, eps=1e-5, momentum=0.9, **shared), ("c5", "final"), ("c5", "c6")
    else:
        given |= {key: tuple(given[key]) for key in ("depths", "widths") if key in given}
        trunk, levels = resnet.trunk(name, **shared, **given), ("c2", "c3", "c4", "c5")
        maps = levels
    if kind == "c4":
        *depths, depth = trunk.depths
        *widths, width = trunk.widths[: len(depths) + 1]
        options = dict(kind=trunk.block, width=width, inner=int(width * trunk.width_per_group / 64) * trunk.groups)
        options |= dict(groups=trunk.groups, norm=stage_norm or trunk.norm, axis=trunk.axis, dtype=trunk.dtype)
        last = len(depths) + 1
        stage = RoIStage(last + 1, depth, stage_stride, options, trunk.remat)
        trunk = trunk.clone(depths=tuple(depths), widths=tuple(widths))
        return Backbone(trunk, None, stage, (f"c{last}",), (f"c{last}",), (2**last,))
    neck = FPN(levels, features=fpn, norm=fpn_norm, axis=shared["axis"], dtype=shared["dtype"])
    roi_levels = tuple(roi_levels or ("p2", "p3", "p4", "p5"))
    return Backbone(trunk, neck, None, maps, roi_levels, [2 ** int(level[1:]) for level in roi_levels])
