"""mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018): two pictures in one, and both their labels."""

import dataclasses

import numpy as np

from jaxvision.data.geometry import MEAN_COLOUR


@dataclasses.dataclass(frozen=True)
class MixUp:
    """Lays a row of a batch and the next of that batch over each other, the own one with a share drawn from Beta(alpha, alpha).

    The row gets `mix`, that share, and `other_label` or `other_labels`, by which losses weigh the two
    (`jaxvision.models.backbones.classification`). Where one picture covers less of the canvas than the other, the mean
    colour is mixed in. 8 bits stay 8 bits, rounded.
    Departures: the pairs are neighbours in the shuffled batch and each draws a share of its own; the authors' code draws one
    for a batch, and pairs by a permutation.
    """

    alpha: float = 0.2

    def __post_init__(self):
        if self.alpha <= 0:
            raise ValueError(f"mix_up: alpha is {self.alpha}, expected a number above 0; to mix nothing leave it out")

    def __call__(self, row, other, rng):
        mix = np.float32(rng.beta(self.alpha, self.alpha))
        image = mix * _on_ground(row) + (1 - mix) * _on_ground(other)
        dtype = row["image"].dtype
        new = {**row, "image": (np.rint(image) if dtype == np.uint8 else image).astype(dtype), "mix": mix}
        new["image_size"] = np.maximum(row["image_size"], other["image_size"])
        return new | {f"other_{name}": other[name] for name in ("label", "labels") if name in row}


def _on_ground(row):
    """The picture as float32, the mean colour beyond its size."""
    height, width = row["image_size"]
    scale = 1 if row["image"].dtype == np.uint8 else 255
    ground = np.empty(row["image"].shape, np.float32)
    ground[...] = np.divide(MEAN_COLOUR, scale)
    ground[:height, :width] = row["image"][:height, :width]
    return ground
