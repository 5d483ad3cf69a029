"""Outlines and straps of the masks as worn."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Shape = Literal["surgical", "n95", "cloth", "tall", "low"]
Curve = NDArray[np.float64]  # (n, 2): u, y


class Outline(NamedTuple):
    """A closed curve, symmetric about u = 0, and the right-hand straps with their width."""

    edge: Curve
    straps: list[Curve]
    strap_width: float


# The right half of each outline from the middle of the upper edge to the middle of the lower one. Crops end at
# y = 112, near the tip of the chin: the lower edges are below.
_HALVES: dict[Shape, list[tuple[float, float]]] = {
    "surgical": [
        (0, 60.5), (5, 61.2), (10, 64), (18, 67.6), (28, 69.8), (36.5, 71), (38, 73), (38, 84), (36.5, 96),
        (33, 104), (26, 112), (14, 118.5), (0, 120),
    ],
    "n95": [
        (0, 59), (4, 59.6), (8, 62.2), (14, 66.5), (23, 71.2), (32, 76.5), (36.5, 81.5), (36.5, 87), (33.5, 97),
        (28, 106.5), (20, 114), (10, 118), (0, 119),
    ],
    "cloth": [
        (0, 62), (5, 62.6), (10, 65), (18, 68.2), (28, 69.2), (37, 70), (40.5, 72.5), (40.5, 82), (38.5, 94),
        (34, 104), (26, 112.5), (14, 118.5), (0, 120.5),
    ],
    "tall": [
        (0, 58.6), (5, 59.6), (10, 62.8), (18, 65.8), (28, 67.4), (38, 68.4), (42.5, 71.5), (42.5, 84), (40, 97),
        (35.5, 107), (28, 115.5), (15, 121.5), (0, 123),
    ],
    "low": [
        (0, 66.4), (6, 66.9), (12, 69), (20, 71.8), (29, 74.5), (36, 76.5), (37.5, 78.5), (37, 88), (35, 99),
        (31, 107), (24, 114.5), (13, 120.5), (0, 122),
    ],
}  # fmt: skip

_JAW = 0.93  # of the width of a mask hanging straight down: below the mouth it narrows to the jaw

# Ear loops run from the corners to the ears, visible in a frontal crop from u = 42 on; N95 bands run round the head.
_STRAPS: dict[Shape, list[list[tuple[float, float]]]] = {
    "surgical": [[(36.5, 72), (41, 68.8), (45, 64.5)], [(35.5, 97.5), (41, 90), (45, 80)]],
    "n95": [[(34.5, 80), (40, 73), (46, 64)], [(34.5, 92), (40, 89.5), (46, 86)]],
    "cloth": [[(39, 72), (42.5, 69), (45.5, 65)], [(37, 96), (42, 88.5), (45.5, 79)]],
    "tall": [[(40.5, 71), (43.5, 68.4), (46, 65)], [(38.5, 99), (43, 90), (46, 80)]],
    "low": [[(35.8, 78), (41, 71), (45, 64.8)], [(34, 101), (41, 91), (45, 80)]],
}


def outline(shape: Shape) -> Outline:
    """The outline and straps of a mask on a frontal face."""
    half = np.array(_HALVES[shape])
    half[:, 0] *= np.interp(half[:, 1], (84.0, 104.0), (1.0, _JAW))
    closed = np.vstack([half, half[-2:0:-1] * [-1, 1]])
    straps = [smooth(np.array(points), closed=False) for points in _STRAPS[shape]]
    return Outline(smooth(closed, closed=True), straps, 1.6 if shape == "n95" else 1.2)


def smooth(points: Curve, closed: bool, steps: int = 10) -> Curve:
    """The Catmull-Rom curve through the points."""
    if closed:
        before, start, end, after = (np.roll(points, shift, axis=0) for shift in (1, 0, -1, -2))
    else:
        ends = np.vstack([points[:1], points, points[-1:]])
        before, start, end, after = ends[:-3], ends[1:-2], ends[2:-1], ends[3:]
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[None, :, None]
    a, b, c, d = (corner[:, None, :] for corner in (before, start, end, after))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    whole = curve.reshape(-1, 2)
    return whole if closed else np.vstack([whole, points[-1:]])
