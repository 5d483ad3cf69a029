"""Where a face is and how it is turned, from its five landmarks alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kdface.augmentations.masks.sprite import MOST_SLANT
from kdface.errors import DataError
from kdface.faces import ARCFACE_112, Points

AXIS = float(ARCFACE_112[[0, 1, 3, 4], 0].mean())  # x of the template's line of symmetry, where u = 0

# The landmarks of a frontal face in the frame of the template, (u, y, z, 1); z by the proportions of a head.
_HEAD = np.column_stack([ARCFACE_112[:, 0] - AXIS, ARCFACE_112[:, 1], [0.0, 0.0, 16.0, 5.0, 5.0], np.ones(5)])
_SURE = 0.6  # slants up to this are taken as they are measured
_MOST_NOD = 0.6  # tangent of the pitch that is still followed, about 31 degrees
_SOLVE = np.linalg.pinv(_HEAD)


class Camera(NamedTuple):
    """The affine camera that sees a head's point (u, y, z) at (x, y) = u across + y down + z slant across + origin.

    `across` and `down` are vectors in pixels of the image to a pixel of the template; `slant` is the tangent of the
    yaw as it is drawn, at most `MOST_SLANT` either way; `scale` is the mean size of the template's pixel.
    """

    across: tuple[float, float]
    down: tuple[float, float]
    origin: tuple[float, float]
    slant: float
    scale: float

    def see(self, u: float, y: float) -> tuple[float, float]:
        """(x, y) in the image of a point of the template's plane."""
        (ax, ay), (dx, dy), (ox, oy) = self.across, self.down, self.origin
        return u * ax + y * dx + ox, u * ay + y * dy + oy

    def shift(self, u: float, y: float) -> Camera:
        """The camera that sees everything moved by this many pixels of the template."""
        return Camera(self.across, self.down, self.see(u, y), self.slant, self.scale)


def _followed(slant: float) -> float:
    """The slant that is drawn: what exceeds `_SURE` counts half, for a long nose looks like a turned head."""
    return min(slant, (slant + _SURE) / 2, MOST_SLANT)


def camera(landmarks: Points) -> Camera:
    """The affine camera that fits the landmarks best, in the least squares; for the template itself, the identity.

    Raises `DataError` if the landmarks are not five points of a face that could be seen.
    """
    if np.shape(landmarks) != (5, 2):
        raise DataError(f"landmarks of shape {np.shape(landmarks)}: cannot place an occluder.", expected="(5, 2)")
    (ax, ay), (dx, dy), (zx, zy), origin = (_SOLVE @ landmarks).tolist()
    area = ax * dy - ay * dx
    if not area > 1e-6 * (ax * ax + ay * ay + dx * dx + dy * dy):
        raise DataError(
            "landmarks that are no face's: not finite, in one line, or mirrored.",
            expected="left eye, right eye, nose, left and right mouth corner, as seen in the image, (x, y) in pixels",
        )
    # The third axis, split along the other two: a turn of the head, and a nod, which moves a mask as a whole.
    slant = (zx * dy - zy * dx) / area
    nod = (ax * zy - ay * zx) / area
    slant = math.copysign(_followed(abs(slant)), slant)
    nod = min(max(nod, -_MOST_NOD), _MOST_NOD)
    seen = Camera((ax, ay), (dx, dy), (origin[0], origin[1]), slant, math.sqrt(area))
    return seen.shift(0.0, 8.0 * nod)  # 8 px is the depth of a mask's middle
