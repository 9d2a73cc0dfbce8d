"""The least classifier that has a map for each class: tests of what is made of such maps compile in a second."""

import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.layers.conv import Conv
from jaxvision.models.backbones.classification import classification_losses, classification_predict
from jaxvision.ops.images import normalize


class Mapper(nn.Module):
    """Cells of 8 x 8 pixels; `class_maps`, whose mean are the scores, are left out where `maps` is False."""

    num_classes: int
    maps: bool

    @nn.compact
    def __call__(self, batch, train=False):
        x = normalize(batch["image"], batch["image_size"], (0.5,) * 3, (0.5,) * 3)
        x = self.perturb("c1", nn.relu(Conv(8, 8, 8, padding=0, name="conv")(x)))
        head = nn.Dense(self.num_classes, use_bias=False, name="head")
        logits = head(x.mean((1, 2)))
        kernel = head.variables["params"]["kernel"]
        maps = {"class_maps": jnp.einsum("bhwd,dk->bhwk", x, kernel)} if self.maps else {}
        return {"c1": x, "logits": logits, **maps}


def mapper(num_classes: int, maps: bool = True) -> Architecture:
    model = Mapper(num_classes, maps)
    return Architecture("mapper", model, classification_losses, classification_predict, "classification")
