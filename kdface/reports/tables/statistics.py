"""Mean and spread over seeds, and the paired test against a baseline on the same seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Summary:
    """Attributes:
    mean: mean over the seeds.
    spread: None for a single seed.
    n: number of seeds.
    """

    mean: float
    spread: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """A row minus its baseline, paired by seed.

    Attributes:
        difference: mean over the common seeds.
        low, high: 95 % t-interval of the difference; None if all differences are equal or n is 1.
        p: two-sided p-value of the paired t-test; None in the same cases.
        adjusted: p after Holm's correction over the rows of the column, if applied.
        n: number of common seeds.
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None
    adjusted: float | None
    n: int


def summarise(values: Sequence[float], spread: Literal["std", "t95"]) -> Summary:
    """The mean and its spread: the sample standard deviation s (n - 1), or t(n - 1, 0.975) s / sqrt(n)."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return Summary(float(array.mean()), None, len(array))
    deviation = float(array.std(ddof=1))
    if spread == "t95":
        deviation *= float(stats.t.ppf(0.975, len(array) - 1)) / math.sqrt(len(array))
    return Summary(float(array.mean()), deviation, len(array))


def compare(values: Mapping[int, float], baseline: Mapping[int, float]) -> Comparison | None:
    """The paired t-test over the common seeds; None if there are none.

    If all differences are equal (within 1e-12), their spread cannot be estimated and there is no test, since p = 0 from
    two or three seeds would claim unwarranted certainty.
    """
    seeds = sorted(set(values) & set(baseline))
    if not seeds:
        return None
    differences = np.array([values[seed] - baseline[seed] for seed in seeds])
    mean, n = float(differences.mean()), len(seeds)
    if n < 2 or float(np.ptp(differences)) < 1e-12:
        return Comparison(mean, None, None, None, None, n)
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf(0.975, n - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1))
    return Comparison(mean, mean - half, mean + half, p, None, n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: the k-th smallest of m times (m - k + 1), non-decreasing, at most 1.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics, 1979.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.minimum(1, np.sort(p_values) * np.arange(len(p_values), 0, -1)))
    return adjusted.tolist()
