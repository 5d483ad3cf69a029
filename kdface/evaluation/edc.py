"""Error versus discard characteristic (EDC): recognition errors after discarding the pairs of lowest quality.

E(d) is the false non-match rate of the remaining pairs after dropping int(d N) of N pairs, those of lowest quality.
Published code disagrees on threshold, dropped pairs and ties, so all three are explicit choices (`DiscardPolicy`)
stored with the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Annotated, Any, Literal, get_args

import numpy as np
from annotated_types import Gt, Lt
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.bootstrap import resamples_of
from kdface.evaluation.scores import Same, Scores, Values, as_array, checked, largest_within
from kdface.randomness import generator

Counts = NDArray[np.int64]
Threshold = Literal["fixed", "re-estimated"]
Discard = Literal["all", "mated"]
Ties = Literal["group", "order"]
FMRRule = Literal["at_most", "nearest"]


@dataclass(frozen=True)
class DiscardPolicy:
    """The choices on which published error-versus-discard curves differ.

    Attributes:
        fmr: the false match rate at which the threshold is set.
        threshold: `fixed`, set once on all pairs (Schlett et al., ISO/IEC 29794-1; LightQNet), or `re-estimated` on
            the remaining pairs, for every number of dropped ones (CR-FIQA, MagFace). With fewer than 1 / fmr impostor
            pairs left, the re-estimated threshold accepts none of them.
        discard: `all` pairs (CR-FIQA, MagFace) or only `mated` ones, with d a share of these (Schlett et al.);
            impostor pairs, and thus the threshold, are then unchanged.
        ties: drop pairs of equal quality together, once all of them may be dropped (`group`, Schlett et al.), or in
            list order (`order`).
        fmr_rule: the lowest threshold whose FMR is `at_most` fmr, or the score whose FMR is `nearest` to fmr, above or
            below it, the lowest of ties: as in the package pyeer, and thus in CR-FIQA's published curves.
    """

    fmr: Annotated[float, Gt(0), Lt(1)] = 1e-3
    threshold: Threshold = "fixed"
    discard: Discard = "all"
    ties: Ties = "group"
    fmr_rule: FMRRule = "at_most"

    def __post_init__(self) -> None:
        if not 0 < self.fmr < 1:
            raise ValueError(f"fmr must be between 0 and 1, got {self.fmr}")
        given = (self.threshold, self.discard, self.ties, self.fmr_rule)
        for value, valid in zip(given, (Threshold, Discard, Ties, FMRRule), strict=True):
            if value not in get_args(valid):
                raise ValueError(f"{value!r} is not one of {', '.join(get_args(valid))}")

    def resolved_by(self, impostors: int) -> bool:
        """Whether this number of impostor pairs resolves a false match rate of `fmr`."""
        return bool(1 / impostors <= self.fmr) if impostors else False

    @property
    def impostors_needed(self) -> int:
        """The minimum number of impostor pairs that resolves a false match rate of `fmr`."""
        about = int(1 / self.fmr)
        return next(count for count in range(max(1, about - 1), about + 3) if self.resolved_by(count))


def lowest_fmr(impostors: int) -> str:
    """The lowest false match rate that this number of impostor pairs resolves, rounded up to two digits."""
    with localcontext(prec=2, rounding=ROUND_CEILING):
        return str(Decimal(1) / impostors)


DEFAULT = DiscardPolicy()


@dataclass(frozen=True, eq=False)
class EDC:
    """The exact curve: a step for every possible number of dropped pairs, E being constant in between.

    Attributes:
        dropped: (steps,) numbers of dropped pairs, ascending from 0.
        errors: (steps,) FNMR of the remaining mated pairs.
        thresholds: (steps,) a pair is accepted if its score is at least this.
        total: the number of pairs that d refers to.
        end: E is defined for d < end; beyond it no mated pair, or none to set the threshold on, remains.
        policy: the choices made.
    """

    dropped: Counts
    errors: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    total: int
    end: float
    policy: DiscardPolicy

    @property
    def fractions(self) -> NDArray[np.float64]:
        """(steps,) d of each step."""
        return self.dropped / self.total

    def at(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """E(d) for each of `fractions`, NaN where undefined."""
        step = np.searchsorted(self.fractions, fractions, side="right") - 1
        return np.where(fractions < self.end, self.errors[step], np.nan)

    def pauc(self, limit: float) -> float:
        """(1 / (limit E(0))) times the integral of E from 0 to `limit`: 1 for an uninformative quality.

        Integrates the step function exactly, without a grid. NaN if E(0) is 0 or E ends before the limit.
        """
        if not 0 < limit <= 1:
            raise ValueError(f"the discard limit must be above 0 and at most 1, got {limit}")
        if self.errors[0] == 0 or limit > self.end:
            return float("nan")
        edges = np.minimum(np.append(self.fractions, self.end), limit)
        return float(np.dot(np.diff(edges), self.errors) / (limit * self.errors[0]))


def error_discard(
    scores: Values,
    same: Values,
    quality: Values,
    policy: DiscardPolicy = DEFAULT,
) -> EDC:
    """The error versus discard characteristic, for every possible number of dropped pairs. O(n log n) time.

    The threshold is the smallest t for which at most fmr times the number of impostor pairs score t or more, and E
    counts the mated pairs that score below t.

    Args:
        scores: (pairs,) similarities, higher is more similar.
        same: (pairs,) whether the pair is mated, i.e. shows one person.
        quality: (pairs,) the minimum quality of the pair's two images. Higher is better.
        policy: the choices on which published code differs.

    Raises:
        UserError: scores or qualities are not finite, genuine or impostor pairs are missing, or there are too few
            impostor pairs for the false match rate.
    """
    values, mated, worth, _ = _by_quality(scores, same, quality, policy)
    return _curve(values, mated, worth, policy)


@dataclass(frozen=True, eq=False)
class DiscardIntervals:
    """Percentile bootstrap intervals of an EDC.

    Attributes:
        pauc: discard limit -> lower and upper bound of pAUC; NaN if no resample has one.
        fractions: (61,) d from 0 to the largest limit.
        low, high: (61,) pointwise bounds of E(d); NaN if E is undefined in some resample.
        undefined: number of resamples without a pAUC because their E(0) is 0, excluded from `pauc`.
        level, resamples, seed: parameters of the intervals.
    """

    pauc: dict[float, tuple[float, float]]
    fractions: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    undefined: int
    level: float
    resamples: int
    seed: int


def bootstrap_error_discard(
    scores: Values,
    same: Values,
    quality: Values,
    policy: DiscardPolicy = DEFAULT,
    limits: Sequence[float] = (0.2, 0.3),
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    units: tuple[Values, Values] | None = None,
) -> DiscardIntervals:
    """Bootstrap intervals of pAUC and E(d): percentiles over resamples of people, images or pairs.

    Errors of pairs that share a person or an image are correlated. So units are resampled, each w times, and a pair
    counts w_left w_right times, or w times if both sides are one unit (the vertex bootstrap of Snijders and Borgatti,
    Connections 1999; for error rates of 1:1 comparison, Fogliato et al., IJCV 2024). Resamples without mated or without
    impostor pairs are redrawn. Without units the pairs are resampled as if independent, separately for mated and
    impostor pairs, keeping their numbers. On simulated lists (tests/evaluation/test_edc.py) 95 % intervals over people
    cover 0.95 to 1, more when impostor pairs share fewer people, those over pairs 0.66 to 0.98.

    The draws depend only on `seed`, the list and the units, so all qualities are compared on the same resamples. Other
    arguments and errors as in `error_discard`.

    Args:
        units: the unit, such as the person, of the left and right image of each pair: two arrays (pairs,) of numbers or
            names.
    """
    if resamples < 1 or not 0 < level < 1 or not limits:
        raise ValueError(f"cannot resample {resamples} times at level {level} for limits {tuple(limits)}")
    values, mated, worth, order = _by_quality(scores, same, quality, policy)
    draws = resamples_of(mated[np.argsort(order)], units, generator(seed, "error-discard bootstrap"))
    fractions = np.linspace(0, max(limits), 61)
    paucs = np.empty((resamples, len(limits)))
    errors = np.empty((resamples, len(fractions)))
    undefined = 0
    for number in range(resamples):
        drawn = np.repeat(np.arange(len(values)), next(draws)[order])
        curve = _curve(values[drawn], mated[drawn], worth[drawn], policy, up_to=max(limits))
        paucs[number] = [curve.pauc(limit) for limit in limits]
        errors[number] = curve.at(fractions)
        undefined += bool(curve.errors[0] == 0)
    bounds = [50 * (1 - level), 50 * (1 + level)]
    low, high = np.percentile(errors, bounds, axis=0)
    found = {}
    for limit, column in zip(limits, paucs.T, strict=True):
        defined = column[~np.isnan(column)]
        lower, upper = np.percentile(defined, bounds) if len(defined) else (np.nan, np.nan)
        found[float(limit)] = (float(lower), float(upper))
    return DiscardIntervals(found, fractions, low, high, undefined, level, resamples, seed)


def _by_quality(
    scores: Values, same: Values, quality: Values, policy: DiscardPolicy
) -> tuple[Scores, Same, NDArray[np.float64], NDArray[np.intp]]:
    """Checked scores, labels and qualities in order of ascending quality (ties in list order), and the order."""
    values, mated = checked(scores, same)
    worth = as_array(quality).astype(np.float64)
    if worth.shape != values.shape:
        raise ValueError(f"quality must be {values.shape} as the scores, got {worth.shape}")
    bad = ~np.isfinite(worth)
    if bad.any():
        raise UserError(
            f"{int(bad.sum())} of {len(worth)} qualities are not finite, first pair {int(bad.argmax())}.",
            fix="look at the loss of the run that learned the quality, or at the source of the labels",
        )
    impostors = int((~mated).sum())
    if not policy.resolved_by(impostors):
        raise UserError(
            f"{impostors} impostor pairs cannot resolve a false match rate of {policy.fmr:g}.",
            expected=f"at least {policy.impostors_needed} impostor pairs",
            fix="use more pairs" + (f", or policy.fmr={lowest_fmr(impostors)} or more" if impostors > 1 else ""),
        )
    order = np.argsort(worth)
    if (np.diff(worth[order]) == 0).any():
        order = np.argsort(worth, kind="stable")  # several times slower
    return values[order], mated[order], worth[order], order


def _curve(
    scores: Scores, same: Same, quality: NDArray[np.floating[Any]], policy: DiscardPolicy, up_to: float = 1.0
) -> EDC:
    """The EDC of pairs in order of ascending quality, up to a share of them."""
    mated, other = scores[same], scores[~same]
    only_mated = policy.discard == "mated"
    kind, worth = (np.ones(len(mated), dtype=np.bool_), quality[same]) if only_mated else (same, quality)
    total = len(kind)
    steps = np.arange(total)
    if policy.ties == "group":
        steps = np.flatnonzero(np.append(True, worth[1:] != worth[:-1]))
    steps = steps[steps / total <= up_to]
    mated_gone = np.append(0, np.cumsum(kind))[steps]
    other_gone = steps - mated_gone
    estimated_once = policy.threshold == "fixed" or only_mated
    defined = mated_gone < len(mated)
    if not estimated_once:
        defined &= other_gone < len(other)
    end = 1.0 if defined.all() else float(steps[~defined][0] / total)
    steps, mated_gone, other_gone = steps[defined], mated_gone[defined], other_gone[defined]
    if estimated_once:
        start = np.zeros(1, dtype=np.int64)
        rejected = _highest_rejected(mated, other, start, start, policy)[0]
        missed = np.append(0, np.cumsum(mated <= rejected))
        errors = (missed[-1] - missed[mated_gone]) / (len(mated) - mated_gone)
        highest_rejected = np.full(len(steps), rejected)
    else:
        highest_rejected = _highest_rejected(mated, other, mated_gone, other_gone, policy)
        errors = _up_to(mated, mated_gone, highest_rejected) / (len(mated) - mated_gone)
    return EDC(steps, errors, np.nextafter(highest_rejected, np.inf), total, end, policy)


def _highest_rejected(
    mated: Scores, other: Scores, mated_gone: Counts, other_gone: Counts, policy: DiscardPolicy
) -> NDArray[np.float64]:
    """(steps,) the score just below the threshold, set on the remaining pairs."""
    left = len(other) - other_gone
    place = largest_within(policy.fmr, left)
    if policy.fmr_rule == "at_most" and len(left) == 1 and other_gone[0] == 0:
        return np.partition(other, len(other) - 1 - place)[len(other) - 1 - place]
    if policy.fmr_rule == "at_most":
        new = np.append(True, other_gone[1:] != other_gone[:-1])  # a mated pair's step leaves the threshold as it is
        return np.asarray(_largest(other, other_gone[new], place[new])[np.cumsum(new) - 1])
    impostors = _Suffixes(other)
    highest = impostors.largest(other_gone, place)
    # The two attained rates next to fmr: just above `highest`, and at it.
    fewer = left - impostors.up_to(other_gone, highest)
    more = left - impostors.up_to(other_gone, np.nextafter(highest, -np.inf))
    lies_above = (fewer > 0) | (_Suffixes(mated).up_to(mated_gone, highest) < len(mated) - mated_gone)
    nearer = np.abs(more / left - policy.fmr) <= np.abs(fewer / left - policy.fmr)
    lower = np.where(more < left, impostors.largest(other_gone, np.minimum(more, left - 1)), -np.inf)
    return np.where(nearer | ~lies_above, lower, highest)


def _largest(values: Scores, start: Counts, place: Counts) -> NDArray[np.float64]:
    """`_Suffixes(values).largest(start, place)`, from the few values that can be the answer.

    A value below the (k + 1)-th largest of those after it, k being the greatest place, is below k + 1 values of every
    suffix that holds it. Of n values in random order about k log(n / k) remain.
    """
    most, size = int(place.max()), len(values)
    possible = np.ones(size, dtype=np.bool_)
    after = size - most - 1  # values[after:] has k + 1 values, which all remain
    while after > 0:
        tail = values[after:]
        bound = np.partition(tail, len(tail) - 1 - most)[len(tail) - 1 - most]
        before, after = after, max(0, after - len(tail))
        possible[after:before] = values[after:before] >= bound
    gone = np.append(0, np.cumsum(~possible))
    kept = _Suffixes(values[possible])
    return kept.largest(start - gone[start], place)


def _up_to(values: Scores, start: Counts, bound: NDArray[np.float64]) -> Counts:
    """(n,) the number of values[start:] up to `bound`; of a value only the lowest bound that holds it matters."""
    new = np.append(True, bound[1:] != bound[:-1])
    bounds, place = np.unique(bound[new], return_inverse=True)
    lowest = np.searchsorted(bounds, values)
    some = lowest < len(bounds)
    gone = np.append(0, np.cumsum(~some))
    return _Suffixes(lowest[some]).up_to(start - gone[start], place[np.cumsum(new) - 1])


class _Suffixes:
    """Order statistics of any suffix values[start:], many suffixes at a time, each in O(log n).

    A wavelet matrix (Claude, Navarro and Ordonez 2015) over the ranks of the distinct values: each level stably
    partitions the ranks by one bit, highest first; the cumulative counts of zeros map an interval to the next level.
    """

    def __init__(self, values: NDArray[np.float64] | Counts) -> None:
        self._sorted, ranks = np.unique(values, return_inverse=True)
        self._size = len(values)
        self._levels: list[tuple[int, Counts]] = []
        for bit in reversed(range(len(self._sorted).bit_length())):
            zero = (ranks >> bit) & 1 == 0
            self._levels.append((bit, np.append(0, np.cumsum(zero))))
            ranks = np.concatenate([ranks[zero], ranks[~zero]])

    def largest(self, start: Counts, place: Counts) -> NDArray[np.float64]:
        """(n,) the value at index `place` of values[start:] sorted in descending order."""
        first, last = start, np.full_like(start, self._size)
        smaller = last - first - 1 - place  # its index in ascending order
        rank = np.zeros_like(start)
        for bit, zeros in self._levels:
            low, high = zeros[first], zeros[last]
            one = smaller >= high - low
            smaller = np.where(one, smaller - (high - low), smaller)
            rank += one.astype(np.int64) << bit
            first = np.where(one, zeros[-1] + first - low, low)
            last = np.where(one, zeros[-1] + last - high, high)
        return np.asarray(self._sorted[rank])

    def up_to(self, start: Counts, bound: NDArray[np.float64] | Counts) -> Counts:
        """(n,) the number of values[start:] up to `bound`."""
        first, last = start, np.full_like(start, self._size)
        under = np.searchsorted(self._sorted, bound, side="right")  # ranks below this do not exceed the bound
        found = np.zeros_like(start)
        for bit, zeros in self._levels:
            low, high = zeros[first], zeros[last]
            one = (under >> bit) & 1 == 1
            found += np.where(one, high - low, 0)
            first = np.where(one, zeros[-1] + first - low, low)
            last = np.where(one, zeros[-1] + last - high, high)
        return found
