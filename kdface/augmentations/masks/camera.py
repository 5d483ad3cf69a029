"""Position and pose of a face, from its five landmarks alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kdface.augmentations.masks.sprite import MOST_SLANT
from kdface.errors import DataError
from kdface.faces import ARCFACE_112, Points

AXIS = float(ARCFACE_112[[0, 1, 3, 4], 0].mean())  # x of the template's line of symmetry, where u = 0

# Landmarks of a frontal face in template coordinates, (u, y, z, 1); z from the proportions of a head.
_HEAD = np.column_stack([ARCFACE_112[:, 0] - AXIS, ARCFACE_112[:, 1], [0.0, 0.0, 16.0, 5.0, 5.0], np.ones(5)])
_SURE = 0.6  # slants up to this are used as measured
_MOST_NOD = 0.6  # tangent of the maximum pitch, about 31 degrees
_SOLVE = np.linalg.pinv(_HEAD)


class Camera(NamedTuple):
    """Affine camera that maps a head's point (u, y, z) to (x, y) = u across + y down + z slant across + origin.

    `across` and `down` are vectors in image pixels per template pixel; `slant` is the tangent of the rendered yaw, at
    most `MOST_SLANT` in magnitude; `scale` is the mean size of a template pixel.
    """

    across: tuple[float, float]
    down: tuple[float, float]
    origin: tuple[float, float]
    slant: float
    scale: float

    def see(self, u: float, y: float) -> tuple[float, float]:
        """Image position (x, y) of a point in the template plane."""
        (ax, ay), (dx, dy), (ox, oy) = self.across, self.down, self.origin
        return u * ax + y * dx + ox, u * ay + y * dy + oy

    def shift(self, u: float, y: float) -> Camera:
        """The camera shifted by this many template pixels."""
        return Camera(self.across, self.down, self.see(u, y), self.slant, self.scale)


def _followed(slant: float) -> float:
    """The slant to render: the excess over `_SURE` counts half, since a long nose looks like a turned head."""
    return min(slant, (slant + _SURE) / 2, MOST_SLANT)


def camera(landmarks: Points) -> Camera:
    """Least-squares affine camera of the landmarks; the identity for the template.

    Raises `DataError` if the landmarks are not five points of a possible face.
    """
    if np.shape(landmarks) != (5, 2):
        raise DataError(f"landmarks of shape {np.shape(landmarks)}: cannot place an occluder.", expected="(5, 2)")
    (ax, ay), (dx, dy), (zx, zy), origin = (_SOLVE @ landmarks).tolist()
    area = ax * dy - ay * dx
    if not area > 1e-6 * (ax * ax + ay * ay + dx * dx + dy * dy):
        raise DataError(
            "these landmarks are not a face's: not finite, collinear, or mirrored.",
            expected="left eye, right eye, nose, left and right mouth corner, as seen in the image, (x, y) in pixels",
        )
    # The third axis, split along the other two: a turn of the head, and a nod, which shifts the whole mask.
    slant = (zx * dy - zy * dx) / area
    nod = (ax * zy - ay * zx) / area
    slant = math.copysign(_followed(abs(slant)), slant)
    nod = min(max(nod, -_MOST_NOD), _MOST_NOD)
    seen = Camera((ax, ay), (dx, dy), (origin[0], origin[1]), slant, math.sqrt(area))
    return seen.shift(0.0, 8.0 * nod)  # 8 px is the depth of a mask's centre
