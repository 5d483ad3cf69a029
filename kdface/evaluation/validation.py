"""VAL and FAR at a distance, as FaceNet defines them (Schroff et al., CVPR 2015, section 4)."""

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

    A pair at the very threshold is accepted, which other code rejects. VAL at a given FAR is
    `tar_at_far(roc(-distances, same), far)`, for the curve accepts the same way.

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
    """VAL and FAR of each fold at the threshold chosen on the others.

    Attributes:
        val: validation rate; its `standard_error` is the +- of the paper's tables.
        far: the false accept rate that the fold itself has there, near the one asked for.
    """

    val: FoldRate
    far: FoldRate


def val_at_far(distances: Values, same: Values, far: float, fold: Values | None = None) -> FoldValidation | None:
    """VAL at a FAR as it can be had of unseen people: the threshold is chosen on the other folds.

    For each fold d is the largest distance of the other folds at which their FAR does not exceed `far`; VAL(d) and
    FAR(d) are those of the fold. So a list of pairs shows rates that one fold has too few impostors to fix a threshold
    for. FaceNet gives means and standard errors over five splits, with 10^10 pairs each, and does not say on which of
    them a threshold was chosen.

    Args:
        distances: (pairs,) squared distances, see `squared_distances`.
        same: (pairs,).
        far: over 0 and up to 1.
        fold: (pairs,) the fold of each pair; ten consecutive blocks where not given.

    Returns:
        None, not available, where all folds but one have fewer than 1 / `far` impostor pairs, or a fold has pairs of
        one kind only.

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
