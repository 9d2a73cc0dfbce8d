"""Colours of classes."""

import numpy as np


def palette(count: int) -> np.ndarray:
    """(count, 3) uint8 RGB, black first: the colour map of the PASCAL VOC devkit, distinct up to 256."""
    index = np.arange(count)
    colours = np.zeros((count, 3), np.uint8)
    for bit in range(8):  # three bits of the index at a time, the lowest to the highest bit of red, green and blue
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours
