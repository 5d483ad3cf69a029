"""VAL and FAR at a distance, as defined by FaceNet (Schroff et al., CVPR 2015, section 4)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kdface.evaluation.curves import roc, threshold_at_far
from kdface.evaluation.scores import Values, checked
from kdface.evaluation.verification import FoldRate, in_folds


class Validation(NamedTuple):
    """Shares of pairs accepted.

    Attributes:
        val: validation rate, of the pairs of one person.
        far: false accept rate, of the pairs of two.
    """

    val: float
    far: float


def val_far(distances: Values, same: Values, threshold: float) -> Validation:
    """VAL(d) = |{same: D <= d}| / |same| and FAR(d) = |{different: D <= d}| / |different|.

    Pairs exactly at the threshold are accepted, unlike in other code. VAL at a given FAR is
    `tar_at_far(roc(-distances, same), far)`, as the curve follows the same convention.

    Args:
        distances: (pairs,) squared distances, see `squared_distances`.
        same: (pairs,).
        threshold: d.

    Raises:
        UserError: a distance is not finite, or genuine or impostor pairs are missing.
    """
    values, mated = checked(distances, same)
    accepted = values <= threshold
    return Validation(float(accepted[mated].mean()), float(accepted[~mated].mean()))


class FoldValidation(NamedTuple):
    """VAL and FAR of each fold at the threshold selected on the others.

    Attributes:
        val: validation rate; its `standard_error` is the +- of the paper's tables.
        far: the resulting false accept rate on the fold itself, near the requested one.
    """

    val: FoldRate
    far: FoldRate


def val_at_far(distances: Values, same: Values, far: float, fold: Values | None = None) -> FoldValidation | None:
    """VAL at a FAR on unseen people, with the threshold selected on the other folds.

    For each fold d is the largest distance in the other folds at which their FAR does not exceed `far`; VAL(d) and
    FAR(d) are those of the fold. This yields rates at FARs for which a single fold has too few impostors. FaceNet
    reports means and standard errors over five splits, with 10^10 pairs each, but not on which of them a threshold was
    selected.

    Args:
        distances: (pairs,) squared distances, see `squared_distances`.
        same: (pairs,).
        far: above 0 and at most 1.
        fold: (pairs,) the fold of each pair; by default ten consecutive blocks.

    Returns:
        None (not available) if the other folds of any fold have fewer than 1 / `far` impostor pairs, or a fold has
        pairs of only one kind.

    Raises:
        UserError: as `tenfold_accuracy`.
    """
    values, mated, number = in_folds(distances, same, fold)
    thresholds: list[float] = []
    found: list[Validation] = []
    for held_out in range(number.max() + 1):
        own = number == held_out
        if mated[own].all() or not mated[own].any() or mated[~own].all() or not mated[~own].any():
            return None
        score = threshold_at_far(roc(-values[~own], mated[~own]), far)
        if score is None:
            return None
        thresholds.append(-score)
        found.append(val_far(values[own], mated[own], -score))
    chosen = np.array(thresholds)
    vals, fars = np.array(found).T
    return FoldValidation(FoldRate(vals, chosen), FoldRate(fars, chosen))
