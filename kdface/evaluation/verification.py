"""Verification accuracy, with the threshold selected on other folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.scores import Same, Scores, Values, as_array, checked, last_of_equals

Folds = NDArray[np.int64]

# The thresholds of InsightFace's verification script, on the squared distance of unit vectors.
INSIGHTFACE_THRESHOLDS = np.arange(0.0, 4.0, 0.01)


@dataclass(frozen=True, eq=False)
class FoldRate:
    """A rate on each fold at the threshold selected on the others, such as the accuracy on its pairs.

    Attributes:
        per_fold: (folds,).
        thresholds: (folds,) on the squared distance.
    """

    per_fold: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """The mean over the folds, a fraction."""
        return float(self.per_fold.mean())

    @property
    def std(self) -> float:
        """Population standard deviation over the folds, the +- of InsightFace."""
        return float(self.per_fold.std())

    @property
    def standard_error(self) -> float:
        """Sample standard deviation over sqrt(folds), the +- of the LFW report and of FaceNet."""
        return float(self.per_fold.std(ddof=1) / np.sqrt(len(self.per_fold)))


def consecutive_folds(pairs: int, folds: int = 10) -> Folds:
    """(pairs,) the fold of each pair: `folds` blocks in list order, the first ones longer by one if uneven.

    The folds of scikit-learn's `KFold` without shuffling, as used by InsightFace for its verification sets.
    """
    if not 2 <= folds <= pairs:
        raise UserError(f"{pairs} pairs cannot be cut into {folds} folds.", expected="2 folds or more, none empty")
    size, longer = divmod(pairs, folds)
    return np.repeat(np.arange(folds, dtype=np.int64), [size + (fold < longer) for fold in range(folds)])


def tenfold_accuracy(distances: Values, same: Values, fold: Values | None = None) -> FoldRate:
    """LFW accuracy as computed by InsightFace.

    A pair is accepted if its squared distance is below the threshold. Each fold uses the threshold among
    0, 0.01, ..., 3.99 with the highest accuracy on all other folds, the first of ties.

    Args:
        distances: (pairs,) squared distances of L2-normalised embeddings, see `squared_distances`.
        same: (pairs,).
        fold: (pairs,) the fold of each pair; by default ten consecutive blocks, which for LFW's View 2
            are its folds.

    Raises:
        UserError: a distance is not finite, genuine or impostor pairs are missing, or there are fewer than
            two folds.
    """
    values, mated, number = in_folds(distances, same, fold)
    correct = np.array(
        [
            _correct_below(INSIGHTFACE_THRESHOLDS, values[number == f], mated[number == f])
            for f in range(number.max() + 1)
        ]
    )
    best = np.argmax(correct.sum(axis=0) - correct, axis=1)
    right = correct[np.arange(len(best)), best]
    return FoldRate(right / np.bincount(number), INSIGHTFACE_THRESHOLDS[best])


def tenfold_accuracy_exact(distances: Values, same: Values, fold: Values | None = None) -> FoldRate:
    """As `tenfold_accuracy`, with the threshold selected among all that the other folds distinguish.

    The candidates are the midpoints between adjacent distinct distances of the other folds, and the two thresholds
    that accept none (0) and all (infinity) of them. Ties go to the smallest, which accepts fewest.
    """
    values, mated, number = in_folds(distances, same, fold)
    order = np.argsort(values, kind="stable")
    ranked, genuine, number_ranked = values[order], mated[order], number[order]
    right, thresholds = [], []
    for f in range(number.max() + 1):
        others = number_ranked != f
        threshold = _best_threshold(ranked[others], genuine[others])
        held_out = ~others
        right.append(np.count_nonzero((ranked[held_out] < threshold) == genuine[held_out]))
        thresholds.append(threshold)
    return FoldRate(np.array(right) / np.bincount(number), np.array(thresholds))


def in_folds(distances: Values, same: Values, fold: Values | None) -> tuple[Scores, Same, Folds]:
    """Checked distances and labels, and the fold of each pair as a number from 0; see `tenfold_accuracy`."""
    values, mated = checked(distances, same)
    if fold is None:
        return values, mated, consecutive_folds(len(values))
    given = as_array(fold)
    if given.shape != values.shape:
        raise ValueError(f"fold must be {values.shape}, got {given.shape}")
    names, number = np.unique(given, return_inverse=True)
    if len(names) < 2:
        raise UserError(
            "All pairs are in one fold, so there are no others to select the threshold on.",
            fix="use at least two folds",
        )
    return values, mated, number.astype(np.int64)


def _correct_below(thresholds: NDArray[np.float64], values: Scores, same: Same) -> NDArray[np.int64]:
    """(thresholds,) number of correct decisions if pairs below the threshold are accepted."""
    genuine, impostor = np.sort(values[same]), np.sort(values[~same])
    accepted = np.searchsorted(genuine, thresholds, side="left")
    rejected = len(impostor) - np.searchsorted(impostor, thresholds, side="left")
    return np.asarray(accepted + rejected, dtype=np.int64)


def _best_threshold(ranked: Scores, same: Same) -> float:
    """The smallest threshold of highest accuracy for ascending distances."""
    last = last_of_equals(ranked)
    genuine = np.cumsum(same, dtype=np.int64)[last]
    # Accepting the first k pairs gives genuine(k) + impostors - (k - genuine(k)) correct decisions.
    gain = np.concatenate([[0], 2 * genuine - (last + 1)])
    best = int(np.argmax(gain))
    if best == 0:
        return 0.0
    if best == len(last):
        return float("inf")
    below, above = float(ranked[last[best - 1]]), float(ranked[last[best - 1] + 1])
    middle = (below + above) / 2
    return middle if middle > below else above  # no float lies between adjacent ones
