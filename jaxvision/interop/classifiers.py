"""torchvision's classifiers."""

from jaxvision.interop.convert import Builder
from jaxvision.models.backbones.resnet import TRUNKS
from jaxvision.models.backbones.vgg import DEPTHS

RESNET_TRUNK = [
    (r"trunk/stem_norm", "trunk/bn1"),
    (r"trunk/stem", "trunk/conv1"),
    (r"trunk/c(\d)_block(\d+)/", lambda m: f"trunk/layer{int(m[1]) - 1}.{m[2]}."),
    (r"(layer\d\.\d+)\.norm", r"\1.bn"),
    (r"(layer\d\.\d+)\.shortcut_norm", r"\1.downsample.1"),
    (r"(layer\d\.\d+)\.shortcut", r"\1.downsample.0"),
]
ALEXNET = [
    *((rf"^trunk/conv{i}\.", f"features.{n}.") for i, n in enumerate((0, 3, 6, 8, 10), 1)),
    *((f"^{ours}", f"classifier.{n}") for ours, n in (("fc6", 1), ("fc7", 4), ("head", 6))),
]
VGG_HEAD = [(f"^{ours}", f"classifier.{n}") for ours, n in (("fc6", 0), ("fc7", 3), ("head", 6))]
# Places among the features: of conv1, then of each fire module.
SQUEEZENET = {"1_0": (0, 3, 4, 5, 7, 8, 9, 10, 12), "1_1": (0, 3, 4, 6, 7, 9, 10, 11, 12)}
GOOGLENET = [
    (r"^trunk/", ""),
    (r"branch(\d)_(\d)", r"branch\1.\2"),
    (r"/norm\.", "/bn."),
    (r"^(aux\d)/head", r"\1/fc2"),
    (r"^head", "fc"),
]
HEAD = [r"^head\."]


def vgg_features(depths, norm: bool) -> list[tuple[str, str]]:
    """Names of a VGG's trunk: torch counts convolutions, norms, ReLUs and pools in one row."""
    names, place = [], 0
    for block, depth in enumerate(depths, 1):
        for i in range(depth):
            names.append((rf"^trunk/block{block}/conv{i}\.", f"features.{place}."))
            names.append((rf"^trunk/block{block}/norm{i}\.", f"features.{place + 1}."))
            place += 3 if norm else 2
        place += 1
    return names


def _resnet(name: str) -> Builder:
    names = [*RESNET_TRUNK, (r"^trunk/", ""), (r"^head", "fc")]
    return Builder("resnet", {"num_classes": 1000, "trunk_name": name}, names, head=HEAD)


def _vgg(name: str, norm: str) -> Builder:
    names = [*vgg_features(DEPTHS[name], norm == "batch"), *VGG_HEAD]
    options = {"num_classes": 1000, "trunk_name": name, "norm": norm}
    return Builder("vgg", options, names, flattened={r"^fc6\.": (7, 7)}, head=HEAD)


def _squeezenet(version: str) -> Builder:
    modules = ["conv1", *(f"fire{i}" for i in range(2, 10))]
    names = [(rf"^trunk/{module}\b", f"features.{n}") for module, n in zip(modules, SQUEEZENET[version])]
    return Builder(
        "squeezenet", {"num_classes": 1000, "version": version}, [*names, (r"^head", "classifier.1")], head=HEAD
    )


BUILDERS = {
    "alexnet": Builder("alexnet", {"num_classes": 1000}, ALEXNET, flattened={r"^fc6\.": (6, 6)}, head=HEAD),
    "googlenet": Builder(
        "googlenet",
        {"num_classes": 1000},
        GOOGLENET,
        flattened={r"^aux\d/fc1\.": (4, 4)},
        head=[*HEAD, r"^aux\d/head\."],
        optional={"aux": r"^aux1\."},
    ),
    **{name: _resnet(name) for name in TRUNKS},
    **{f"squeezenet{version}": _squeezenet(version) for version in SQUEEZENET},
    **{name: _vgg(name, "none") for name in DEPTHS},
    **{f"{name}_bn": _vgg(name, "batch") for name in DEPTHS},
}
