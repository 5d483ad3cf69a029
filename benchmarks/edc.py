"""Time of the exact error versus discard characteristic, beside the way it is usually computed.

100,000 pairs, half of them mated, one thread. kdface computes the curve for every number of dropped pairs; the usual
way computes it anew for each of the 20 discard fractions 0, 0.05, ..., 0.95. The two run interleaved, and their errors
at these fractions must agree; that is checked.
"""

from __future__ import annotations

import statistics
import time
from itertools import product

import numpy as np
from numpy.typing import NDArray

from kdface.evaluation.edc import Discard, DiscardPolicy, Threshold, Ties, bootstrap_error_discard, error_discard

PAIRS = 100_000
REPEATS = 5
RESAMPLES = 20
FRACTIONS = np.arange(20) / 20
Array = NDArray[np.float64]


def main() -> None:
    scores, same, quality = _pairs(PAIRS)
    print(f"error versus discard of {PAIRS:,} pairs, {REPEATS} interleaved repeats")
    thresholds: tuple[Threshold, ...] = ("fixed", "re-estimated")
    discards: tuple[Discard, ...] = ("all", "mated")
    ties: tuple[Ties, ...] = ("group", "order")
    for threshold, discard, tie in product(thresholds, discards, ties):
        policy = DiscardPolicy(1e-3, threshold, discard, tie)
        ours, theirs = [], []
        for _ in range(REPEATS):
            start = time.perf_counter()
            curve = error_discard(scores, same, quality, policy)
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            errors = _usual(scores, same, quality, policy)
            theirs.append(time.perf_counter() - start)
            if not np.allclose(curve.at(FRACTIONS), errors, rtol=0, atol=1e-12):
                raise SystemExit(f"the two ways disagree for {policy}")
        start = time.perf_counter()
        bootstrap_error_discard(scores, same, quality, policy, resamples=RESAMPLES)
        resample = (time.perf_counter() - start) / RESAMPLES
        exact = statistics.median(ours)
        per_point = statistics.median(their / len(FRACTIONS) for their in theirs)
        print(
            f"  {threshold:<12} {discard:<5} {tie:<5}  {1000 * exact:6.1f} ms for {len(curve.errors):>7,} steps"
            f"   usual way {1000 * per_point:5.1f} ms a fraction   bootstrap {1000 * resample:6.1f} ms a resample"
        )


def _pairs(number: int) -> tuple[Array, NDArray[np.bool_], Array]:
    """Scores whose errors have low quality; qualities on 5,000 levels, so that some tie."""
    rng = np.random.default_rng(0)
    same = np.arange(number) % 2 == 0
    quality = np.round(rng.random(number) * 5000) / 5000
    scores = np.where(same, 0.25 + 0.5 * quality, 0.0) + 0.12 * rng.standard_normal(number)
    return scores, same, quality


def _usual(scores: Array, same: NDArray[np.bool_], quality: Array, policy: DiscardPolicy) -> Array:
    """E at each fraction, from scratch."""
    droppable = np.flatnonzero(same) if policy.discard == "mated" else np.arange(len(scores))
    order = droppable[np.argsort(quality[droppable], kind="stable")]
    impostors = scores[~same]
    errors = []
    for fraction in FRACTIONS:
        count = int(fraction * len(order) + 1e-9)
        if policy.ties == "group":
            count = int((quality[order] < quality[order[count]]).sum())
        kept = np.ones(len(scores), dtype=np.bool_)
        kept[order[:count]] = False
        if policy.threshold == "re-estimated":
            impostors = scores[kept & ~same]
        rejected = np.sort(impostors)[::-1][int(policy.fmr * len(impostors) + 1e-9)]
        errors.append((scores[kept & same] <= rejected).mean())
    return np.array(errors)


if __name__ == "__main__":
    main()
