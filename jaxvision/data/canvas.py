"""Anti-aliased drawing of one object: ink on a fine canvas, averaged down to fractional coverage."""

from typing import NamedTuple

import cv2
import numpy as np

SUPERSAMPLE = 4
_BITS = 4  # fractional bits of OpenCV's coordinates


class Ink(NamedTuple):
    """One object before it has a colour.

    layers: (h, w, 3) float32 of 0..1: coverage, and how much of it is trim (accents) and shade (outlines), so that
    trim + shade <= coverage. corner: (2,) int, x and y of the top left pixel. joints: (K, 2) x, y in pixels, or None.
    """

    layers: np.ndarray
    corner: np.ndarray
    joints: np.ndarray | None


class Canvas:
    """A square of 2 `radius` pixels around the origin; coordinates are pixels, x to the right and y down."""

    FILL, TRIM, SHADE = (255, 0, 0), (255, 255, 0), (255, 0, 255)

    def __init__(self, radius: int):
        self.radius = radius
        self.pixels = np.zeros((2 * radius * SUPERSAMPLE, 2 * radius * SUPERSAMPLE, 3), np.uint8)

    def _grid(self, points) -> np.ndarray:
        fine = (np.asarray(points) + self.radius) * SUPERSAMPLE - 0.5  # OpenCV counts from the first pixel's centre
        return np.rint(fine * (1 << _BITS)).astype(np.int32)

    def polygons(self, rings, ink) -> None:
        """Fills what lies within an odd number of the rings, so that an inner ring is a hole."""
        cv2.fillPoly(self.pixels, [self._grid(ring) for ring in rings], ink, shift=_BITS)

    def line(self, points, width: float, ink, closed: bool = False) -> None:
        thickness = max(1, round(width * SUPERSAMPLE))
        cv2.polylines(self.pixels, [self._grid(points)], closed, ink, thickness, shift=_BITS)

    def disc(self, centre, radius: float, ink) -> None:
        fine = round(radius * SUPERSAMPLE * (1 << _BITS))
        cv2.circle(self.pixels, self._grid(centre).tolist(), fine, ink, cv2.FILLED, shift=_BITS)

    def resolve(self, joints: np.ndarray | None = None) -> Ink:
        """The ink at the picture's resolution, cut to what is covered."""
        side = 2 * self.radius
        layers = cv2.resize(self.pixels, (side, side), interpolation=cv2.INTER_AREA)
        x, y, width, height = cv2.boundingRect(layers[..., 0])
        corner = np.array([x, y]) - self.radius
        return Ink(layers[y : y + height, x : x + width].astype(np.float32) / 255, corner, joints)


def turn(angle: float) -> np.ndarray:
    """The matrix that turns row vectors clockwise in the picture: points @ turn(angle)."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
