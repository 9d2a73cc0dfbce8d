"""Scenes as they are drawn, before anything is stored."""

import numpy as np

from jaxvision.data import scenes


def draw_many(name, split, count):
    return [scenes.scene(scenes.CONFIGS[name], split, number) for number in range(count)]


def semantic(example):
    """(H, W): 0 where nothing is, else class + 1."""
    classes = np.array([0] + [entry["class"] + 1 for entry in example["objects"]])
    return classes[example["instances"][..., 0]]
