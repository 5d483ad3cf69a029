"""Whole protocols against published code: 10-fold verification, and error versus discard with its intervals.

The code of CR-FIQA (its `ERC`, and the InsightFace `evaluate` that it carries) is looked for below KDFACE_PEERS.
"""

from __future__ import annotations

import contextlib
import importlib
import statistics
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import LeftOut, Row, peer, ratios, side_by_side
from kdface.evaluation.curves import roc_corners, tar_at_far
from kdface.evaluation.edc import DiscardPolicy, bootstrap_error_discard, error_discard
from kdface.evaluation.scores import squared_distances
from kdface.evaluation.verification import tenfold_accuracy

PAIRS, SIZE = 6_000, 512
QUALITY_PAIRS, QUALITY_SIZE, PEOPLE = 100_000, 64, 5_000
RATES = (1e-2, 1e-3, 1e-4)
RESAMPLES = 20
LIMIT = 0.95
FRACTIONS = np.arange(0, 0.98, 0.05)
Array = NDArray[np.float64]


def main() -> list[Row | LeftOut]:
    folder = peer("CR-FIQA")
    if folder is None:
        why = "KDFACE_PEERS has no CR-FIQA"
        return [LeftOut("10-fold verification", why), LeftOut("error versus discard", why)]
    try:
        return [_tenfold(folder), *_discard(folder)]
    except ImportError as error:
        return [LeftOut("10-fold verification, error versus discard", f"the code of CR-FIQA needs {error.name}")]


def _tenfold(folder: Path) -> Row:
    module = _module(folder, "eval.verification")
    # SciPy's interp1d, which it was written for, took repeated rates; today's does not.
    module.interpolate = types.SimpleNamespace(interp1d=lambda x, y, kind: lambda at: np.interp(at, x, y))
    rng = np.random.default_rng(0)
    same = np.arange(PAIRS) // (PAIRS // 20) % 2 == 0
    embeddings = rng.standard_normal((2 * PAIRS, SIZE)).astype(np.float32)
    embeddings[1::2][same] += 1.2 * embeddings[::2][same]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    peers = embeddings.astype(np.float64)

    def ours() -> Any:
        distances = squared_distances(embeddings[::2], embeddings[1::2])
        return tenfold_accuracy(distances, same), tar_at_far(roc_corners(-distances, same), 1e-3)

    def theirs() -> Any:
        return module.evaluate(peers, same)

    if not np.array_equal(ours()[0].per_fold, theirs()[2]):
        raise SystemExit("the two ways have other accuracies")
    mine, other = side_by_side(ours, theirs, 3, 20)
    return Row(
        f"10-fold verification and TAR at FAR 0.001, {PAIRS:,} pairs x {SIZE}",
        "InsightFace's evaluate",
        statistics.median(mine),
        statistics.median(other),
        "s",
        ratios(mine, other),
        50,
        "",
        f"reading {2 * PAIRS * SIZE * 4 / 1e6:.0f} MB once",
    )


def _discard(folder: Path) -> list[Row]:
    """The published code takes embeddings, 20 discard fractions and three rates; ours the scores' every step."""
    np.int = int  # type: ignore[attr-defined]  # which the published code names, and NumPy no longer has
    published = _module(folder, "ERC.erc").getFNMRFixedTH
    rng = np.random.default_rng(0)
    same = np.arange(QUALITY_PAIRS) % 2 == 0
    quality = rng.random(QUALITY_PAIRS)
    left = rng.standard_normal((QUALITY_PAIRS, QUALITY_SIZE))
    right = rng.standard_normal((QUALITY_PAIRS, QUALITY_SIZE))
    right[same] += (2 * quality[same] + 0.2)[:, None] * left[same]
    people = rng.integers(PEOPLE, size=(2, QUALITY_PAIRS))
    people[1][same] = people[0][same]
    pairs = {place: [a, b, int(c)] for place, (a, b, c) in enumerate(zip(left, right, same, strict=True))}
    policies = [DiscardPolicy(rate, "re-estimated", "all", "order") for rate in RATES]

    def curve() -> Any:
        # Its distances are angles: of equal order as cosines.
        scores = 1 - squared_distances(left, right) / 2
        curves = [error_discard(scores, same, quality, policy) for policy in policies]
        return [curve.pauc(LIMIT) for curve in curves], [curve.at(FRACTIONS) for curve in curves]

    def once() -> Any:
        scores = 1 - squared_distances(left, right) / 2
        curves = [error_discard(scores, same, quality, DiscardPolicy(rate)) for rate in RATES]
        return [curve.pauc(LIMIT) for curve in curves]

    def fractions() -> Any:
        scores = 1 - squared_distances(left, right) / 2
        return _at_fractions(scores, same, quality)

    def intervals() -> Any:
        scores = 1 - squared_distances(left, right) / 2
        units = people[0], people[1]
        return [
            bootstrap_error_discard(scores, same, quality, policy, (LIMIT,), RESAMPLES, units=units)
            for policy in policies
        ]

    def theirs() -> Any:
        *lists, rates = published(pairs, quality)
        return [np.trapezoid(errors, rates[: len(errors)]) for errors in lists], lists

    for rate, mine, other in zip(RATES, curve()[1], theirs()[1], strict=True):
        gap = np.abs(mine - np.array(other)).max()  # theirs takes the rate nearest to the one that is asked for
        if gap > 0.03:
            raise SystemExit(f"the errors at a false match rate of {rate} differ by {gap:.3f}")
    if not np.allclose(_at_fractions(1 - squared_distances(left, right) / 2, same, quality), curve()[1], atol=1e-12):
        raise SystemExit("the errors at the fractions are not those of the curve")
    mine, other = side_by_side(curve, theirs, 3)
    fixed, other_fixed = side_by_side(once, theirs, 3)
    alike, other_alike = side_by_side(fractions, theirs, 3)
    with_intervals = statistics.median(side_by_side(intervals, lambda: None, 1)[0])
    peers = statistics.median(other)
    what, erc = f"error versus discard and pAUC, {QUALITY_PAIRS:,} pairs, 3 rates", "CR-FIQA's ERC, 20 fractions"

    def row(name: str, mine: list[float], other: list[float]) -> Row:
        return Row(name, erc, statistics.median(mine), statistics.median(other), "s", ratios(mine, other), 100)

    return [
        row(f"{what}, thresholds re-estimated at each of {QUALITY_PAIRS:,} steps", mine, other),
        row("the same at the peer's 20 fractions only, in NumPy and no part of kdface", alike, other_alike),
        row("the same with the default policy, one fixed threshold, at every step", fixed, other_fixed),
        Row(
            f"thresholds re-estimated at every step, with intervals over {PEOPLE:,} people, a resample",
            "CR-FIQA's ERC, once a resample (it has no intervals)",
            with_intervals / RESAMPLES,
            peers,
            "s",
            [seconds / (with_intervals / RESAMPLES) for seconds in other],
            100,
        ),
    ]


def _at_fractions(scores: Array, same: NDArray[np.bool_], quality: Array) -> list[Array]:
    """E at the 20 fractions and for each rate, its threshold by one selection: the peer's task and no more."""
    order = np.argsort(quality)
    scores, same = scores[order], same[order]
    errors = np.empty((len(RATES), len(FRACTIONS)))
    for column, fraction in enumerate(FRACTIONS):
        first = int(fraction * len(scores) + 1e-9)
        mated, other = scores[first:][same[first:]], scores[first:][~same[first:]]
        places = [len(other) - 1 - int(rate * len(other) + 1e-9) for rate in RATES]
        rejected = np.partition(other, places)[places]
        errors[:, column] = [(mated <= score).mean() for score in rejected]
    return list(errors)


def _module(folder: Path, name: str) -> Any:
    """A module of the published code, which asks for mxnet without needing it here, and reads its own arguments."""
    for absent in ("mxnet", "mxnet.ndarray"):
        sys.modules.setdefault(absent, types.ModuleType(absent))
    sys.modules["mxnet"].ndarray = sys.modules["mxnet.ndarray"]  # type: ignore[attr-defined]
    with contextlib.ExitStack() as stack:
        sys.path.insert(0, str(folder))
        stack.callback(sys.path.remove, str(folder))
        arguments, sys.argv = sys.argv, sys.argv[:1]
        stack.callback(setattr, sys, "argv", arguments)
        return importlib.import_module(name)


if __name__ == "__main__":
    from benchmarks.measure import table

    print(table(main()))
