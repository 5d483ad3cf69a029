"""Exact error rates from raw scores: ROC, AUC, EER, TAR at FAR, FNMR at FMR.

A pair is accepted if its score is at least the threshold; higher scores mean more similar (negate distances).
Nothing is binned, squashed or interpolated unless documented. FAR and FMR denote the same rate here, the share of
impostor pairs accepted; TAR = 1 - FNMR is the share of genuine pairs accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdface.evaluation.scores import Values, as_array, as_same, last_of_equals, require_rates

Rates = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RocCurve:
    """The exact ROC: one vertex per distinct score, and one that accepts nothing.

    Attributes:
        thresholds: (vertices,) descending; the first is +inf, which accepts nothing.
        genuine_accepted: (vertices,) genuine pairs with a score of at least the threshold.
        impostor_accepted: (vertices,) impostor pairs with a score of at least the threshold.
    """

    thresholds: NDArray[np.float64]
    genuine_accepted: NDArray[np.int64]
    impostor_accepted: NDArray[np.int64]

    @property
    def n_genuine(self) -> int:
        """Total genuine pairs."""
        return int(self.genuine_accepted[-1])

    @property
    def n_impostor(self) -> int:
        """Total impostor pairs."""
        return int(self.impostor_accepted[-1])

    @property
    def far(self) -> Rates:
        """(vertices,) false accept rate, also called false match rate."""
        return self.impostor_accepted / self.n_impostor

    @property
    def tar(self) -> Rates:
        """(vertices,) true accept rate."""
        return self.genuine_accepted / self.n_genuine

    @property
    def fnmr(self) -> Rates:
        """(vertices,) false non-match rate, 1 - TAR."""
        return (self.n_genuine - self.genuine_accepted) / self.n_genuine

    def corners(self) -> RocCurve:
        """The same curve without collinear vertices along an axis, for plotting and storage.

        Keeps the first vertex with an impostor: its FAR is the lowest the pairs can resolve.
        """
        genuine, impostor = np.diff(self.genuine_accepted) > 0, np.diff(self.impostor_accepted) > 0
        along = (genuine[:-1] & genuine[1:] & ~impostor[:-1] & ~impostor[1:]) | (
            impostor[:-1] & impostor[1:] & ~genuine[:-1] & ~genuine[1:]
        )
        keep = np.concatenate([[True], ~along, [True]])
        keep[np.argmax(self.impostor_accepted > 0)] = True
        return RocCurve(self.thresholds[keep], self.genuine_accepted[keep], self.impostor_accepted[keep])


def roc(scores: Values, same: Values) -> RocCurve:
    """The exact ROC of scores (pairs,); `same` (pairs,) marks genuine pairs. O(n log n) time.

    Accepts arrays, lists and tensors. For tens of millions of pairs `roc_corners` takes a third of the memory.

    Raises:
        UserError: a score is not finite, or genuine or impostor pairs are missing.
    """
    genuine, impostor = _sorted(scores, same)
    # Merge by position: sorting values is three times as fast as sorting indices and gathering.
    mated = np.zeros(len(genuine) + len(impostor), dtype=np.bool_)
    mated[np.searchsorted(impostor, genuine, side="right") + np.arange(len(genuine))] = True
    ranked = np.empty(len(mated), dtype=impostor.dtype)
    ranked[mated], ranked[~mated] = genuine, impostor
    ranked, mated = ranked[::-1], mated[::-1]
    last = last_of_equals(ranked)
    accepted = np.cumsum(mated, dtype=np.int64)[last]
    return RocCurve(
        thresholds=np.concatenate([[np.inf], ranked[last]]),
        genuine_accepted=np.concatenate([[0], accepted]),
        impostor_accepted=np.concatenate([[0], last + 1 - accepted]),
    )


def roc_corners(scores: Values, same: Values) -> RocCurve:
    """`roc(scores, same).corners()`, computed without the curve in between.

    In addition to the scores it needs a sorted copy and a few arrays as long as the genuine scores: AUC, EER, TAR at
    FAR and FNMR at FMR of 84 million pairs fit into 1 GiB. Raises as `roc`.
    """
    genuine, impostor = _sorted(scores, same)
    own, counts = np.unique(genuine, return_counts=True)
    own, accepted = own[::-1], np.cumsum(counts[::-1], dtype=np.int64)
    # Per distinct genuine score, descending: impostors above it, and those at or above it.
    above = len(impostor) - np.searchsorted(impostor, own, side="right")
    at_least = len(impostor) - np.searchsorted(impostor, own, side="left")
    before = np.concatenate([[0], at_least[:-1]])  # impostors at or above the previous genuine score
    run = above > before  # only impostors in between: the curve runs along an axis
    tied = at_least > above  # genuine and impostor scores are equal: the curve is diagonal
    # Along the genuine axis a score's vertex is not a corner if the next score has no impostor above or equal to it.
    kept = np.ones(len(own), dtype=np.bool_)
    kept[:-1] = tied[:-1] | run[1:] | tied[1:]
    vertices = [
        np.array([[np.inf, 0, 0]]),
        np.stack([impostor[len(impostor) - above[run]], (accepted - counts[::-1])[run], above[run]], axis=1),
        np.stack([own, accepted, at_least], axis=1)[kept],
    ]
    greatest = impostor[-1]
    first = len(impostor) - int(np.searchsorted(impostor, greatest, side="left"))
    vertices.append(np.array([[greatest, (genuine >= greatest).sum(), first]]))  # kept, see `RocCurve.corners`
    vertices.append(np.array([[min(impostor[0], genuine[0]), len(genuine), len(impostor)]]))
    corners = np.concatenate(vertices, dtype=np.float64)  # counts are exact up to 2^53
    corners = corners[np.lexsort((corners[:, 2], corners[:, 1]))]
    corners = corners[np.append(True, (np.diff(corners[:, 1:], axis=0) != 0).any(axis=1))]
    return RocCurve(corners[:, 0].copy(), corners[:, 1].astype(np.int64), corners[:, 2].astype(np.int64))


def _sorted(scores: Values, same: Values) -> tuple[NDArray[Any], NDArray[Any]]:
    """The genuine and the impostor scores, ascending; float32 is kept: same order, half the memory."""
    given = as_array(scores)
    values = given if given.dtype == np.float32 else given.astype(np.float64, copy=False)
    mated = as_same(same, values.shape)
    require_rates(values, mated)
    genuine, impostor = values[mated], values[~mated]
    genuine.sort()
    impostor.sort()
    return genuine, impostor


def auc(curve: RocCurve) -> float:
    """Area under the exact ROC by trapezoids: P(genuine > impostor) + P(equal) / 2 (Mann-Whitney)."""
    heights = curve.genuine_accepted[1:] + curve.genuine_accepted[:-1]
    doubled = int(np.dot(np.diff(curve.impostor_accepted), heights))
    return doubled / (2 * curve.n_genuine * curve.n_impostor)


def eer(curve: RocCurve) -> float:
    """Equal error rate: where the piecewise linear exact ROC crosses FMR = FNMR.

    The crossing between the last vertex with FMR < FNMR and the next one is interpolated linearly. If no genuine and
    impostor scores are equal, the curve is axis-parallel there and the EER is a rate that is attained.
    """
    gap = curve.far - curve.fnmr  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    low, high = float(gap[after - 1]), float(gap[after])
    far = curve.far[after - 1 : after + 1]
    return float(far[0] + (far[1] - far[0]) * (-low / (high - low)))


def eer_midpoint(curve: RocCurve) -> float:
    """(FMR + FNMR) / 2 at the kept vertex with the smallest |FMR - FNMR|, the strictest of equals.

    The equal error rate of CKD's official evaluation. Like scikit-learn's `roc_curve`, on which that is based, it skips
    vertices at which both counts continue by the same steps. Use `eer` except to compare with it.
    """
    kept = np.ones(len(curve.thresholds), dtype=np.bool_)
    kept[2:-1] = (np.diff(curve.genuine_accepted[1:], 2) != 0) | (np.diff(curve.impostor_accepted[1:], 2) != 0)
    far, fnmr = curve.far[kept], 1 - curve.tar[kept]  # not .fnmr, whose rounding breaks exact draws otherwise
    at = int(np.argmin(np.abs(far - fnmr)))
    return float(far[at] + fnmr[at]) / 2


def _vertex_at_far(curve: RocCurve, far: float) -> int | None:
    if not 0 < far <= 1:
        raise ValueError(f"FAR must be above 0 and at most 1, got {far}")
    if far < 1 / curve.n_impostor:
        return None
    return int(np.searchsorted(curve.far, far, side="right")) - 1


def tar_at_far(curve: RocCurve, far: float) -> float | None:
    """TAR at the lowest threshold whose FAR does not exceed `far`; no interpolation.

    None (not available) if fewer than 1 / `far` impostor pairs cannot resolve the rate.
    """
    at = _vertex_at_far(curve, far)
    return None if at is None else float(curve.tar[at])


def threshold_at_far(curve: RocCurve, far: float) -> float | None:
    """The lowest score whose FAR as a threshold is at most `far`, or None (see `tar_at_far`).

    +inf if the top-scoring impostors alone exceed it.
    """
    at = _vertex_at_far(curve, far)
    return None if at is None else float(curve.thresholds[at])


def fnmr_at_fmr(curve: RocCurve, fmr: float) -> float | None:
    """The lowest FNMR among thresholds with FMR <= `fmr`, or None (see `tar_at_far`).

    FMR100 is `fnmr_at_fmr(curve, 0.01)`, FMR1000 `fnmr_at_fmr(curve, 0.001)`, as defined in the FVC and MFR
    competitions.
    """
    at = _vertex_at_far(curve, fmr)
    return None if at is None else float(curve.fnmr[at])
