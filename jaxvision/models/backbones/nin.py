"""Network in network (Lin, Chen & Yan, "Network In Network", ICLR 2014), as a trunk and as a classifier.

A convolution, then 1x1 convolutions that make its filters small perceptrons; the last block has a map for each class, whose
means are the scores. No layer is connected to a whole map.

Departures: RGB by ImageNet's mean and deviation instead of global contrast normalisation and ZCA whitening; He
initialisation, and scores that begin near one, since a ReLU follows them that passes no gradient below zero.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.backbones.classification import classifier, network_input
from jaxvision.ops.pool import max_pool

Block = tuple[
    int, int, int, Sequence[int]
]  # kernel, stride and padding of the convolution; channels of it and of the 1x1s
# As the authors have given them out for Caffe, for pictures of 32 and of 224 pixels.
BLOCKS = {
    "cifar": ((5, 1, 2, (192, 160, 96)), (5, 1, 2, (192, 192, 192)), (3, 1, 1, (192, 192))),
    "imagenet": (
        (11, 4, 0, (96, 96, 96)),
        (5, 1, 2, (256, 256, 256)),
        (3, 1, 1, (384, 384, 384)),
        (3, 1, 1, (1024, 1024)),
    ),
}


class NIN(nn.Module):
    """Images (B,H,W,3), normalised, to maps {"c1", "c2", ...} of the blocks, each with ReLU behind every convolution.

    Between blocks there are a 3x3 max-pool at stride 2, which takes in what is left over at the edge, and dropout. norm:
    behind each convolution; the paper has none.
    """

    blocks: Sequence[Block] = BLOCKS["cifar"]
    dropout: float = 0.5
    norm: str = "none"
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        maps = {}
        for block, (kernel, stride, pad, widths) in enumerate(self.blocks, 1):
            if block > 1:
                x = nn.Dropout(self.dropout, deterministic=not train)(max_pool(x, 3, 2, ceil_mode=True))
            for i, width in enumerate(widths):
                layer = (kernel, stride, pad) if i == 0 else (1,)
                name = f"block{block}_conv{i}"
                x = Conv(width, *layer, bias=self.norm == "none", dtype=self.dtype, name=name)(x)
                x = nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name=f"{name}_norm")(x, train))
            x = maps[f"c{block}"] = self.perturb(f"c{block}", x)
        return maps


class NINClassifier(nn.Module):
    """`class_maps` (B,h,w,num_classes), a last 1x1 convolution, and `logits` (B, num_classes), their means, beside the
    trunk's maps. relu: whether it ends with one, as the paper's formula has it."""

    trunk: NIN
    num_classes: int
    relu: bool = True

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> dict[str, jax.Array]:
        maps = self.trunk(network_input(batch), train)
        last = maps[f"c{len(maps)}"].astype(jnp.float32)
        start = {"kernel_init": nn.initializers.normal(0.01), "bias_init": nn.initializers.ones} if self.relu else {}
        scores = Conv(self.num_classes, 1, **start, name="head")(last)
        scores = self.perturb("class_maps", nn.relu(scores) if self.relu else scores)
        return {**maps, "class_maps": scores, "logits": scores.mean((1, 2))}


def nin(
    num_classes: int,
    trunk_name: str = "cifar",
    blocks: Sequence[Block] | None = None,
    dropout: float = 0.5,
    relu: bool = True,
    norm: str = "none",
    axis: str | None = None,
    dtype: Any = jnp.float32,
    loss: str | None = None,
    multi_label: bool = False,
) -> Architecture:
    """A NIN classifier; `trunk_name`, one of `BLOCKS`, sets the blocks, `blocks` overrides them.

    dropout, norm: see `NIN`. relu: see `NINClassifier`. loss, multi_label: see `classifier`. Raises ValueError for an unknown
    name.
    """
    if trunk_name not in BLOCKS:
        raise ValueError(f"There is no trunk {trunk_name!r}; known: {', '.join(BLOCKS)}.")
    blocks = BLOCKS[trunk_name] if blocks is None else blocks
    blocks = tuple((kernel, stride, pad, tuple(widths)) for kernel, stride, pad, widths in blocks)
    model = NINClassifier(NIN(blocks, dropout, norm, axis, dtype), num_classes, relu)
    return classifier("nin", model, loss, multi_label)
