"""What segmenters share: scores of a trunk's map brought to the image's size, losses and predictions."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.batch import real_rows
from jaxvision.losses.cross_entropy import softmax_cross_entropy
from jaxvision.models.backbones import mobilenet_v3, resnet
from jaxvision.models.backbones.classification import network_input
from jaxvision.ops.resize import resize

# Whether c3, c4, c5 are dilated.
DILATED = {8: (False, True, True), 16: (False, False, True), 32: (False, False, False)}


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


def dilated_trunk(backbone: str, output_stride: int | None, **options) -> tuple[nn.Module, str, str]:
    """(trunk, the name of its last map, and of the one that an auxiliary head reads), as torchvision's segmenters have them.

    output_stride: of the last map; None is 8 for a ResNet and 16 for a MobileNetV3. options: fields of the trunk, None
    where they stay as the name has them. Raises ValueError for an unknown trunk or stride, or an option of the other kind.
    """
    mobile = backbone.startswith("mobilenet")
    kind, strides = (mobilenet_v3, (16, 32)) if mobile else (resnet, (8, 16, 32))
    stride = output_stride or strides[0]
    if stride not in strides:
        raise ValueError(f"output_stride of {backbone} is one of {', '.join(map(str, strides))}, not {stride}.")
    options = {name: value for name, value in options.items() if value is not None}
    module = mobilenet_v3.MobileNetV3 if mobile else resnet.ResNet
    foreign = sorted(options.keys() - module.__dataclass_fields__.keys())
    if foreign:
        raise ValueError(f"A trunk {backbone!r} has no option {', '.join(foreign)}.")
    options["dilated"] = stride == 16 if mobile else DILATED[stride]
    return kind.trunk(backbone, **options), *(("final", "c3") if mobile else ("c5", "c4"))


def segmentation_losses(outputs, batch):
    """{"pixel": softmax cross-entropy of every pixel that is not 255}, and "aux", of `aux_logits`, where there are any."""
    semantic, real = batch["semantic"], real_rows(batch)
    return {
        term: softmax_cross_entropy(outputs[name], semantic, real, ignore=255)
        for term, name in (("pixel", "logits"), ("aux", "aux_logits"))
        if name in outputs
    }


def segmentation_predict(outputs, batch):
    """{"semantic": (B,H,W) int32, the class of each pixel}."""
    return {"semantic": jnp.argmax(outputs["logits"], -1).astype(jnp.int32)}
