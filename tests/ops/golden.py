"""The operators' golden file: what torchvision computes, in torch's layouts."""

import pathlib

import numpy as np

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "operators.npz")


def nhwc(name: str) -> np.ndarray:
    return GOLDEN[name].transpose(0, 2, 3, 1)
