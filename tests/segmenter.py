"""The least architecture there is: what tests of the training compile in a second where a real one takes five."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.models.segmentation.objective import segmentation_losses, segmentation_predict
from jaxvision.ops.images import normalize


class Trunk(nn.Module):
    norm: str
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x, train):
        x = Conv(8, 5, 4, bias=self.norm == "none", dtype=self.dtype, name="conv")(x)
        return nn.relu(Norm(self.norm, axis=self.axis, dtype=self.dtype, name="norm")(x, train))


class Segmenter(nn.Module):
    """Scores of cells of 4 x 4 pixels, repeated over their pixels."""

    num_classes: int
    norm: str
    dropout: float
    axis: str | None
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, batch, train=False):
        x = normalize(batch["image"], batch["image_size"], (0.5,) * 3, (0.5,) * 3)
        trunk = nn.remat(Trunk, static_argnums=(2,)) if self.remat else Trunk
        x = trunk(self.norm, self.axis, self.dtype, name="trunk")(x, train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = Conv(self.num_classes, 1, name="score")(x.astype(jnp.float32))
        return {"logits": x.repeat(4, 1).repeat(4, 2)}


def segmenter(
    num_classes: int,
    norm: str = "none",
    dropout: float = 0.0,
    axis: str | None = None,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> Architecture:
    model = Segmenter(num_classes, norm, dropout, axis, remat, dtype)
    return Architecture("segmenter", model, segmentation_losses, segmentation_predict, "segmentation")
