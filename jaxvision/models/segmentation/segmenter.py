"""What segmenters share: scores of a trunk's map brought to the image's size."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.models.backbones import mobilenet_v3, resnet, xception
from jaxvision.models.backbones.classification import network_input
from jaxvision.ops.resize import resize


class Segmenter(nn.Module):
    """`logits` (B,H,W,num_classes) at the size of the canvas, upsampled bilinearly, beside the trunk's maps.

    With `aux` also `aux_logits`, from an earlier map. head, aux: from a map (B,h,w,C), the cells that the image covers
    (B,h,w), and `train`, to scores (B,h,w,num_classes). level, aux_level: the names of their maps.
    """

    trunk: nn.Module
    head: nn.Module
    aux: nn.Module | None
    level: str
    aux_level: str

    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        x = network_input(batch)
        maps, canvas = self.trunk(x, train), x.shape[1:3]

        def logits(head, level):
            covered = covered_cells(batch["image_size"], canvas, maps[level].shape[1:3])
            return resize(head(maps[level], covered, train), canvas)

        outputs = {**maps, "logits": logits(self.head, self.level)}
        return outputs if self.aux is None else {**outputs, "aux_logits": logits(self.aux, self.aux_level)}


def covered_cells(image_size: jax.Array, canvas: tuple[int, int], cells: tuple[int, int]) -> jax.Array:
    """Which cells (B,h,w) of a map of the canvas lie on the image of that size (B,2): as many as the image alone gives."""
    height, width = (-(-image_size[:, i] * n // side) for i, (n, side) in enumerate(zip(cells, canvas)))
    rows, columns = (jnp.arange(n) < sides[:, None] for n, sides in zip(cells, (height, width)))
    return rows[:, :, None] & columns[:, None, :]


class Kind(NamedTuple):
    """A family of trunks: its module and maker, the output strides it can have, the default first, and how to ask for one;
    the names of its last map, of the one that an auxiliary head reads, and of the one for a decoder, at stride 4."""

    module: type
    trunk: Callable
    strides: Sequence[int]
    dilation: Callable[[int], dict]
    levels: tuple[str, str, str] = ("c5", "c4", "c2")


DILATED = {8: (False, True, True), 16: (False, False, True), 32: (False, False, False)}  # whether c3, c4, c5 are
RESNET = Kind(resnet.ResNet, resnet.trunk, (8, 16, 32), lambda stride: {"dilated": DILATED[stride]})  # ResNeXt too
KINDS = {
    "mobilenet": Kind(
        mobilenet_v3.MobileNetV3,
        mobilenet_v3.trunk,
        (16, 32),
        lambda stride: {"dilated": stride == 16},
        ("final", "c3", "c2"),
    ),
    "xception": Kind(
        xception.Xception,
        xception.trunk,
        (16, 8, 32),
        lambda stride: {"output_stride": stride},
        ("c5", "c4", "low"),
    ),
}


def dilated_trunk(backbone: str, output_stride: int | None, **options) -> tuple[nn.Module, tuple[str, str, str]]:
    """(trunk, the names of its last map, of the one that an auxiliary head reads, and of the one for a decoder).

    output_stride: of the last map; None is 8 for a ResNet and 16 for a MobileNetV3 or Xception. options: fields of the trunk,
    None where they stay as the name has them. Raises ValueError for an unknown trunk or stride, or an option of another kind.
    """
    kind = next((kind for prefix, kind in KINDS.items() if backbone.startswith(prefix)), RESNET)
    stride = output_stride or kind.strides[0]
    if stride not in kind.strides:
        known = ", ".join(map(str, sorted(kind.strides)))
        raise ValueError(f"output_stride of {backbone} is one of {known}, not {stride}.")
    options = {name: value for name, value in options.items() if value is not None}
    foreign = sorted(options.keys() - kind.module.__dataclass_fields__.keys())
    if foreign:
        raise ValueError(f"A trunk {backbone!r} has no option {', '.join(foreign)}.")
    return kind.trunk(backbone, **options, **kind.dilation(stride)), kind.levels
