"""torchvision's MobileNetV3."""

from collections.abc import Sequence

from jaxvision.interop.convert import Builder
from jaxvision.models.backbones.mobilenet_v3 import LARGE, SMALL, STEM, Row


def trunk_names(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Patterns that number a trunk's layers as `features` does: "trunk/block4/squeeze/fc1" is "trunk/4.block.2.fc1"."""
    names = [("^trunk/stem_norm", "trunk/0.1"), ("^trunk/stem", "trunk/0.0")]
    names += [("^trunk/last_norm", f"trunk/{len(rows) + 1}.1"), ("^trunk/last", f"trunk/{len(rows) + 1}.0")]
    channels = STEM
    for i, row in enumerate(rows, 1):
        here = {"expand": row.expanded != channels, "depthwise": True, "squeeze": row.squeeze, "project": True}
        for j, layer in enumerate(layer for layer, exists in here.items() if exists):
            ours, place = f"^trunk/block{i}/{layer}", f"trunk/{i}.block.{j}."
            names += [(f"{ours}_norm", f"{place}1"), (f"{ours}(?=\\.)", f"{place}0"), (f"{ours}/", place)]
        channels = row.out
    return names


MOBILENET_V3_LARGE, MOBILENET_V3_SMALL = trunk_names(LARGE), trunk_names(SMALL)


def _mobilenet_v3(name: str, trunk: list) -> Builder:
    names = [*trunk, (r"^trunk/", "features."), (r"^fc\.", "classifier.0."), (r"^head\.", "classifier.3.")]
    return Builder("mobilenet_v3", {"num_classes": 1000, "trunk_name": name}, names, head=[r"^head\."])


BUILDERS = {
    "mobilenet_v3_large": _mobilenet_v3("mobilenet_v3_large", MOBILENET_V3_LARGE),
    "mobilenet_v3_small": _mobilenet_v3("mobilenet_v3_small", MOBILENET_V3_SMALL),
}
