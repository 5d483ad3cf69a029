"""Smooth curves through a few points."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]  # (n, 2)


@lru_cache(maxsize=64)
def _spline_basis(count: int, closed: bool, steps: int) -> NDArray[np.float64]:
    """The matrix that takes `count` control points to points on their Catmull-Rom spline."""
    spans = count if closed else count - 1
    t = np.arange(steps) / steps
    weights = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], 1
    )
    basis = np.zeros((spans * steps + (not closed), count))
    for span in range(spans):
        for k in range(4):
            index = span + k - 1
            column = index % count if closed else min(max(index, 0), count - 1)
            basis[span * steps : (span + 1) * steps, column] += weights[:, k]
    if not closed:
        basis[-1, -1] = 1.0
    return basis


def spline(points: Curve, closed: bool = False, steps: int = 6) -> Curve:
    """Points along the Catmull-Rom spline through `points` (..., n, 2)."""
    return np.asarray(_spline_basis(points.shape[-2], closed, steps) @ points)
