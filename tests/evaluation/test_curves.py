"""Exact curves against rational arithmetic over all thresholds, closed forms and published examples."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.curves import (
    auc,
    eer,
    eer_midpoint,
    fnmr_at_fmr,
    roc,
    roc_corners,
    tar_at_far,
    threshold_at_far,
)

Array = NDArray[Any]
Same = NDArray[np.bool_]


def _draw(seed: int, pairs: int = 160, ties: bool = False) -> tuple[Array, Same]:
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < 0.4
    scores = rng.normal(size=pairs) + 1.2 * same
    return (np.round(scores, 1) if ties else scores), same


def _slow_vertices(scores: Array, same: Same) -> list[tuple[float, int, int]]:
    """[(threshold, genuine accepted, impostors accepted)] by counting at each threshold, strictest first."""
    vertices = [(float("inf"), 0, 0)]
    for threshold in sorted({float(score) for score in scores}, reverse=True):
        genuine = sum(1 for s, g in zip(scores, same, strict=True) if g and s >= threshold)
        impostor = sum(1 for s, g in zip(scores, same, strict=True) if not g and s >= threshold)
        vertices.append((threshold, genuine, impostor))
    return vertices


def _slow_rates(scores: Array, same: Same) -> list[tuple[float, Fraction, Fraction]]:
    vertices = _slow_vertices(scores, same)
    n_genuine, n_impostor = vertices[-1][1:]
    return [(t, Fraction(i, n_impostor), 1 - Fraction(g, n_genuine)) for t, g, i in vertices]


CASES = [_draw(seed, pairs, ties) for seed in range(4) for pairs in (7, 160) for ties in (False, True)]
CASES.append((np.zeros(6), np.array([True, False, True, False, False, True])))  # all scores equal
CASES.append((np.arange(6.0), np.array([False] * 3 + [True] * 3)))  # perfect
CASES.append((-np.arange(6.0), np.array([False] * 3 + [True] * 3)))  # perfectly wrong


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_vertices_are_the_counts_at_every_distinct_score(scores: Array, same: Same) -> None:
    curve = roc(scores, same)
    found = zip(curve.thresholds, curve.genuine_accepted, curve.impostor_accepted, strict=True)
    assert [(float(t), int(g), int(i)) for t, g, i in found] == _slow_vertices(scores, same)
    slow = _slow_rates(scores, same)
    assert curve.far.tolist() == [float(fmr) for _, fmr, _ in slow]
    assert curve.fnmr.tolist() == [float(fnmr) for _, _, fnmr in slow]
    assert curve.tar == pytest.approx([1 - float(fnmr) for _, _, fnmr in slow])


@pytest.mark.parametrize(("scores", "same"), CASES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_corners_alone_are_the_corners_of_the_whole_curve(scores: Array, same: Same, dtype: Any) -> None:
    whole, alone = roc(scores.astype(dtype), same), roc_corners(scores.astype(dtype), same)
    corners = whole.corners()
    assert alone.thresholds.tolist() == corners.thresholds.tolist() and alone.thresholds.dtype == np.float64
    assert alone.genuine_accepted.tolist() == corners.genuine_accepted.tolist()
    assert alone.impostor_accepted.tolist() == corners.impostor_accepted.tolist()
    assert auc(alone) == auc(whole)
    assert eer(alone) == pytest.approx(eer(whole), abs=1e-15)
    for far in (1e-3, 0.1, 0.3, 1.0):
        assert tar_at_far(alone, far) == tar_at_far(whole, far)
        assert fnmr_at_fmr(alone, far) == fnmr_at_fmr(whole, far)


def test_corners_of_many_pairs_take_little_more_than_a_sorted_copy_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    same = rng.random(400_000) < 0.01
    scores = (rng.normal(size=len(same)) + same).astype(np.float32)
    tracemalloc.start()
    try:
        roc_corners(scores, same)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.0 * scores.nbytes


def test_what_is_given_is_not_changed() -> None:
    scores, same = _draw(0)
    before = scores.copy(), same.copy()
    roc(scores, same), roc_corners(scores, same)
    assert (scores == before[0]).all() and (same == before[1]).all()


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_auc_is_the_mann_whitney_statistic(scores: Array, same: Same) -> None:
    wins = Fraction(0)
    for genuine in scores[same]:
        for impostor in scores[~same]:
            wins += Fraction(1) if genuine > impostor else Fraction(1, 2) if genuine == impostor else 0
    assert auc(roc(scores, same)) == float(wins / (int(same.sum()) * int((~same).sum())))


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_eer_is_the_crossing_of_the_exact_polyline(scores: Array, same: Same) -> None:
    slow = _slow_rates(scores, same)
    crossing = Fraction(-1)
    for (_, fmr0, fnmr0), (_, fmr1, fnmr1) in pairwise(slow):
        gap0, gap1 = fmr0 - fnmr0, fmr1 - fnmr1
        if gap0 < 0 <= gap1:
            crossing = fmr0 + (fmr1 - fmr0) * (-gap0) / (gap1 - gap0)
    assert eer(roc(scores, same)) == pytest.approx(float(crossing), abs=1e-15)


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_eer_midpoint_is_the_mean_rate_at_the_vertex_scikit_learn_would_pick(scores: Array, same: Same) -> None:
    vertices = _slow_vertices(scores, same)
    n_genuine, n_impostor = vertices[-1][1:]
    kept = [vertices[0]]
    real = vertices[1:]
    for k, (_, genuine, impostor) in enumerate(real):
        if 0 < k < len(real) - 1:
            bend_genuine = real[k + 1][1] - 2 * genuine + real[k - 1][1]
            bend_impostor = real[k + 1][2] - 2 * impostor + real[k - 1][2]
            if bend_genuine == 0 and bend_impostor == 0:
                continue
        kept.append(real[k])
    rates = [(Fraction(i, n_impostor), 1 - Fraction(g, n_genuine)) for _, g, i in kept]
    least = min(abs(fmr - fnmr) for fmr, fnmr in rates)
    # Among exact draws rounding decides, in the original too: any of them is right.
    right = [float(fmr + fnmr) / 2 for fmr, fnmr in rates if abs(fmr - fnmr) == least]
    assert any(eer_midpoint(roc(scores, same)) == pytest.approx(value, abs=1e-12) for value in right)


@pytest.mark.parametrize("far", [1 / 96, 0.02, 0.1, 0.29, 0.5, 1.0])
@pytest.mark.parametrize(("scores", "same"), CASES)
def test_rates_at_an_operating_point(scores: Array, same: Same, far: float) -> None:
    curve = roc(scores, same)
    slow = _slow_rates(scores, same)
    allowed = [(t, fmr, fnmr) for t, fmr, fnmr in slow if float(fmr) <= far]
    if far < 1 / int((~same).sum()):
        assert tar_at_far(curve, far) is None
        assert fnmr_at_fmr(curve, far) is None
        assert threshold_at_far(curve, far) is None
    else:
        assert tar_at_far(curve, far) == float(1 - min(fnmr for _, _, fnmr in allowed))
        assert fnmr_at_fmr(curve, far) == float(min(fnmr for _, _, fnmr in allowed))
        assert threshold_at_far(curve, far) == min(t for t, _, _ in allowed)


def test_a_far_as_fine_as_one_impostor_is_resolved_and_a_finer_one_is_not() -> None:
    same = np.array([True] * 100 + [False] * 3000)
    scores = np.concatenate([np.linspace(0.5, 1, 100), np.linspace(-1, 0.7, 3000)])
    curve = roc(scores, same)
    assert tar_at_far(curve, 1 / 3000) is not None
    assert tar_at_far(curve, 1e-3) is not None
    assert tar_at_far(curve, 1e-4) is None  # LFW has 3,000 impostor pairs


def test_a_far_of_29_percent_allows_29_of_100_impostors() -> None:
    # 0.29 * 100 is 28.999999999999996 in floating point: counting by multiplication would lose one.
    same = np.array([False] * 100 + [True])
    scores = np.concatenate([np.arange(100.0), [71.0]])  # 29 impostors score 71 or more
    assert tar_at_far(roc(scores, same), 0.29) == 1.0


def test_equal_scores_cannot_be_parted() -> None:
    same = np.array([True, False, False, True])
    curve = roc(np.array([0.9, 0.5, 0.5, 0.5]), same)
    assert tar_at_far(curve, 0.5) == 0.5  # accepting the second genuine pair accepts both impostors
    assert eer(curve) == pytest.approx(1 / 3)  # on the line from (0, 1/2) to (1, 0): FMR = 1/2 - FMR/2


def test_facenet_val_and_far() -> None:
    # facenet.md 12.2: accepted when D <= d; D <= 1.0 gives VAL 0.75 and FAR 0.25.
    distances = np.array([0.1, 0.5, 1.0, 1.3, 0.9, 1.2, 1.5, 2.0])
    curve = roc(-distances, np.array([True] * 4 + [False] * 4))
    at = curve.thresholds.tolist().index(-1.0)
    assert (curve.tar[at], curve.far[at]) == (0.75, 0.25)


def test_normal_scores_have_the_rates_of_the_normal_distribution() -> None:
    n, shift = 4000, 2.0
    quantiles = np.array([NormalDist().inv_cdf((k + 0.5) / n) for k in range(n)])
    scores = np.concatenate([quantiles + shift, quantiles])
    curve = roc(scores, np.arange(2 * n) < n)
    assert auc(curve) == pytest.approx(NormalDist().cdf(shift / 2**0.5), abs=1e-4)
    assert eer(curve) == pytest.approx(NormalDist().cdf(-shift / 2), abs=1 / n)
    at_one_percent = NormalDist().cdf(NormalDist().inv_cdf(0.99) - shift)
    # One impostor more moves FNMR by phi(t - 2) / phi(t) = 14.2 steps there, t = 2.326.
    assert fnmr_at_fmr(curve, 0.01) == pytest.approx(at_one_percent, abs=15 / n)


@pytest.mark.parametrize("transform", [np.exp, lambda s: s / 10 - 3, lambda s: s**3])
def test_rates_depend_on_the_order_of_scores_only(transform: Callable[[Array], Array]) -> None:
    # In particular scores under 0 and over 1 are taken as they are.
    scores, same = _draw(3)
    before, after = roc(scores, same), roc(transform(scores), same)
    assert before.genuine_accepted.tolist() == after.genuine_accepted.tolist()
    assert before.impostor_accepted.tolist() == after.impostor_accepted.tolist()


def test_float32_scores_stay_tied() -> None:
    scores, same = _draw(1, ties=True)
    single = roc(scores.astype(np.float32), same)
    assert single.impostor_accepted.tolist() == roc(scores, same).impostor_accepted.tolist()


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_corners_keep_the_curve(scores: Array, same: Same) -> None:
    whole, corners = roc(scores, same), roc(scores, same).corners()
    points = set(zip(whole.impostor_accepted.tolist(), whole.genuine_accepted.tolist(), strict=True))
    kept = list(zip(corners.impostor_accepted.tolist(), corners.genuine_accepted.tolist(), strict=True))
    assert set(kept) <= points
    for point in points - set(kept):  # what was left out lies on a stretch along an axis
        assert any(
            (a[0] == point[0] == b[0] and a[1] < point[1] < b[1])
            or (a[1] == point[1] == b[1] and a[0] < point[0] < b[0])
            for a, b in pairwise(kept)
        )
    assert auc(corners) == auc(whole)
    assert eer(corners) == pytest.approx(eer(whole), abs=1e-12)
    assert min(far for far in corners.far if far > 0) == min(far for far in whole.far if far > 0)


def test_corners_of_a_long_flat_stretch_are_few() -> None:
    same = np.arange(2000) < 1000
    curve = roc(-np.arange(2000.0), same)  # perfect: up to TAR 1, then right to FAR 1
    kept = list(zip(curve.corners().far.tolist(), curve.corners().tar.tolist(), strict=True))
    assert kept == [(0, 0), (0, 1), (0.001, 1), (1, 1)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_told(bad: float) -> None:
    scores, same = _draw(0)
    scores[[5, 9]] = bad
    with pytest.raises(UserError, match=r"2 of 160 scores are not finite, first pair 5"):
        roc(scores, same)


def test_one_kind_of_pairs_is_told() -> None:
    with pytest.raises(UserError, match="All 3 pairs are pairs of the same person"):
        roc(np.arange(3.0), np.ones(3, dtype=bool))
    with pytest.raises(UserError, match="All 3 pairs are pairs of different people"):
        roc(np.arange(3.0), np.zeros(3, dtype=bool))
    with pytest.raises(UserError, match="There are no pairs"):
        roc(np.zeros(0), np.zeros(0, dtype=bool))


def test_labels_must_tell_two_kinds_of_the_same_length() -> None:
    with pytest.raises(ValueError, match="bool"):
        roc(np.arange(3.0), np.array([2, 0, 1]))
    with pytest.raises(ValueError, match="bool"):
        roc(np.arange(3.0), np.array([True, False]))


@pytest.mark.parametrize("far", [0.0, -0.1, 1.5, float("nan")])
def test_a_far_that_is_no_fraction_is_refused(far: float) -> None:
    with pytest.raises(ValueError, match="FAR must be above 0 and at most 1"):
        tar_at_far(roc(*_draw(0)), far)
