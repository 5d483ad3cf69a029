"""Bootstrap resamples of pairs, whose errors correlate through shared people or images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kdface.evaluation.scores import Same, Values, as_array

Counts = NDArray[np.int64]


def resamples_of(same: Same, units: tuple[Values, Values] | None, rng: np.random.Generator) -> Iterator[Counts]:
    """Infinite iterator over resamples, each (pairs,) weights.

    Units, such as people, are drawn with replacement, each w times, and a pair counts w_left w_right times, or w times
    if both sides are one unit (the vertex bootstrap of Snijders and Borgatti, Connections 1999). Resamples without
    genuine or without impostor pairs are redrawn. Without units the pairs are drawn, separately for each kind.

    Args:
        same: (pairs,).
        units: the unit of the left and right image of each pair: two arrays (pairs,) of numbers or names.
        rng: used for the draws.
    """
    if units is None:
        kinds = (np.flatnonzero(same), np.flatnonzero(~same))
        while True:
            times = np.empty(len(same), dtype=np.int64)
            for rows in kinds:
                times[rows] = np.bincount(rng.integers(len(rows), size=len(rows)), minlength=len(rows))
            yield times
    sides = [as_array(side) for side in units]
    if any(side.shape != same.shape for side in sides):
        raise ValueError(f"units must be {same.shape} twice, got {', '.join(str(side.shape) for side in sides)}")
    number = np.unique(np.concatenate(sides), return_inverse=True)[1]
    left, right = number[: len(same)], number[len(same) :]
    count = int(number.max()) + 1
    while True:
        weight = np.bincount(rng.integers(count, size=count), minlength=count)
        times = weight[left] * np.where(left == right, 1, weight[right])
        if times[same].any() and times[~same].any():
            yield times
