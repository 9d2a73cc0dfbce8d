"""torchvision's classifiers."""

from jaxvision.interop.convert import Builder

RESNET_TRUNK = [
    (r"trunk/stem_norm", "trunk/bn1"),
    (r"trunk/stem", "trunk/conv1"),
    (r"trunk/c(\d)_block(\d+)/", lambda m: f"trunk/layer{int(m[1]) - 1}.{m[2]}."),
    (r"(layer\d\.\d+)\.norm", r"\1.bn"),
    (r"(layer\d\.\d+)\.shortcut_norm", r"\1.downsample.1"),
    (r"(layer\d\.\d+)\.shortcut", r"\1.downsample.0"),
]


def _resnet(name: str, **options) -> Builder:
    names = [*RESNET_TRUNK, (r"^trunk/", ""), (r"^head", "fc")]
    return Builder("resnet", {"num_classes": 1000, "trunk_name": name, **options}, names, head=[r"^head\."])


BUILDERS = {name: _resnet(name) for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")}
