"""Operating points: thresholds at given false-accept rates, with intervals over the tested people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdface.evaluation.bootstrap import resamples_of
from kdface.evaluation.curves import roc, tar_at_far, threshold_at_far
from kdface.evaluation.scores import Values, checked, last_of_equals
from kdface.randomness import generator

FARS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def operating_points(
    scores: Values,
    same: Values,
    units: tuple[Values, Values] | None = None,
    fars: Sequence[float] = FARS,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The threshold at each FAR that the impostor pairs resolve, as plain values.

    It is the lowest score t with (impostor pairs with a score of at least t) / (impostor pairs) <= FAR
    (`kdface.evaluation.curves.threshold_at_far`). A FAR needs at least 1 / FAR impostor pairs; others are omitted, as
    are those exceeded by the top-scoring impostors alone. `low` and `high` are percentiles of the threshold over
    resamples of people (`kdface.evaluation.bootstrap`); null if these do not bound it. With few people, whose pairs
    share most impostors, the interval is wide.

    Args:
        scores: (pairs,) higher means more similar.
        same: (pairs,).
        units: the person of the left and right image of each pair; null: resample pairs.
        fars: false-accept rates.
        resamples, level, seed: of the interval.

    Returns:
        For each resolved FAR: far, threshold, low, high, tar (share of genuine pairs accepted).

    Raises:
        UserError: a score is not finite, or genuine or impostor pairs are missing.
    """
    values, mated = checked(scores, same)
    curve = roc(values, mated)
    found: list[tuple[float, float, float]] = []
    for far in fars:
        threshold, tar = threshold_at_far(curve, far), tar_at_far(curve, far)
        if threshold is not None and tar is not None and np.isfinite(threshold):
            found.append((float(far), threshold, tar))
    if not found:
        return []
    spread = thresholds_of_resamples(values, mated, units, [far for far, *_ in found], resamples, seed)
    ranked = np.sort(spread, axis=0)
    tail = (1 - level) / 2
    low, high = ranked[int(tail * resamples)], ranked[resamples - 1 - int(tail * resamples)]
    return [
        {
            "far": far,
            "threshold": threshold,
            "low": float(low[place]) if np.isfinite(low[place]) else None,
            "high": float(high[place]) if np.isfinite(high[place]) else None,
            "tar": tar,
        }
        for place, (far, threshold, tar) in enumerate(found)
    ]


def thresholds_of_resamples(
    values: NDArray[np.float64],
    mated: NDArray[np.bool_],
    units: tuple[Values, Values] | None,
    fars: Sequence[float],
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """(resamples, fars) the lowest drawn score with FAR at or below each rate, +inf if there is none.

    Sorts the scores once; resamples only change their weights.
    """
    order = np.argsort(values)[::-1]
    ends = last_of_equals(values[order])
    thresholds = values[order][ends]
    impostor = ~mated[order]
    draws = resamples_of(mated, units, generator(seed, "operating points"))
    found = np.full((resamples, len(fars)), np.inf)
    for number in range(resamples):
        times = next(draws)[order]
        accepted = np.cumsum(times)[ends]
        impostors = np.cumsum(np.where(impostor, times, 0))[ends]
        at = np.searchsorted(impostors / impostors[-1], np.asarray(fars), side="right") - 1
        for place, last in enumerate(at):
            if last >= 0 and accepted[last] > 0:  # skip back over scores that were not drawn
                found[number, place] = thresholds[np.searchsorted(accepted, accepted[last], side="left")]
    return found
