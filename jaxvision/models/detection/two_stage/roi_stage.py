"""The last stage of a ResNet on regions instead of the image (He et al., CVPR 2016, appendix A): the C4 form's head."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.models.backbones.resnet import Block


class RoIStage(nn.Module):
    """RoI features (B,R,s,s,C) through residual blocks: (B,R,s',s',C'), s' = s / stride.

    number: of the stage, which names the blocks as in the trunk. options: of `Block`, beside its stride.
    """

    number: int
    depth: int
    stride: int
    options: dict[str, Any]
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        batch, rois = x.shape[:2]
        x = x.reshape(batch * rois, *x.shape[2:])
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for i in range(self.depth):
            stride = self.stride if i == 0 else 1
            x = block(stride=stride, dilation=1, **self.options, name=f"c{self.number}_block{i}")(x, train)
        return x.reshape(batch, rois, *x.shape[1:]).astype(jnp.float32)
