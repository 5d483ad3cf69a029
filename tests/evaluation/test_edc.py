"""Error versus discard against a loop that drops pairs one by one, and against closed forms."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from kdface.errors import UserError
from kdface.evaluation.curves import fnmr_at_fmr, roc
from kdface.evaluation.edc import EDC, DiscardPolicy, bootstrap_error_discard, error_discard

Array = NDArray[Any]
POLICIES = [
    {"threshold": threshold, "discard": discard, "ties": ties}
    for threshold, discard, ties in product(("fixed", "re-estimated"), ("all", "mated"), ("group", "order"))
]


def _slow(scores: Array, same: Array, quality: Array, policy: DiscardPolicy) -> tuple[list[float], list[float]]:
    """E and threshold after dropping k = 0, 1, 2, ... pairs, each from scratch, until one is not defined."""
    pairs = list(zip(scores.tolist(), same.tolist(), quality.tolist(), strict=True))
    droppable = sorted((j for j in range(len(pairs)) if policy.discard == "all" or same[j]), key=lambda j: pairs[j][2])
    errors, thresholds = [], []
    for k in range(len(droppable)):
        if policy.ties == "group":  # go back to where a group of equal quality begins
            while k > 0 and pairs[droppable[k]][2] == pairs[droppable[k - 1]][2]:
                k -= 1
        dropped = set(droppable[:k])
        kept = [pair for j, pair in enumerate(pairs) if j not in dropped]
        mated = [score for score, is_same, _ in kept if is_same]
        impostors = [score for score, is_same, _ in (pairs if policy.threshold == "fixed" else kept) if not is_same]
        if not mated or not impostors:
            break
        candidates = [float(np.nextafter(score, np.inf)) for score in impostors]
        threshold = min(t for t in candidates if sum(s >= t for s in impostors) / len(impostors) <= policy.fmr)
        errors.append(sum(score < threshold for score in mated) / len(mated))
        thresholds.append(threshold)
    return errors, thresholds


def _slow_pauc(errors: list[float], total: int, limit: float) -> float:
    """The area of cells of width 1 / total, the last one cut at the limit."""
    area = sum(e * max(0.0, min((k + 1) / total, limit) - k / total) for k, e in enumerate(errors))
    if errors[0] == 0 or len(errors) / total < limit:
        return float("nan")
    return area / (limit * errors[0])


def _every_step(curve: EDC) -> tuple[Array, Array]:
    """E and threshold for every number of dropped pairs."""
    step = np.searchsorted(curve.dropped, np.arange(round(curve.end * curve.total)), side="right") - 1
    return curve.errors[step], curve.thresholds[step]


def _draw(seed: int, levels: int | None, mated: int = 24, impostors: int = 31) -> tuple[Array, Array, Array]:
    """Scores and qualities that go together a little; on a few levels they tie."""
    rng = np.random.default_rng(seed)
    same = rng.permutation(np.arange(mated + impostors) < mated)
    quality = rng.random(len(same))
    scores = np.where(same, 0.8 * quality, 0.5 * (1 - quality)) + 0.4 * rng.random(len(same))
    if levels is not None:
        quality, scores = np.round(quality * levels) / levels, np.round(scores * levels) / levels
    return scores, same, quality


@pytest.mark.parametrize("choices", POLICIES)
@pytest.mark.parametrize("levels", [None, 3, 10])
@pytest.mark.parametrize("fmr", [0.04, 0.1, 0.29, 0.5])
def test_against_a_loop(choices: Any, levels: int | None, fmr: float) -> None:
    policy = DiscardPolicy(fmr, **choices)
    for seed in range(4):
        scores, same, quality = _draw(seed, levels)
        curve = error_discard(scores, same, quality, policy)
        errors, thresholds = _slow(scores, same, quality, policy)
        found, at = _every_step(curve)
        assert found.tolist() == pytest.approx(errors, abs=1e-12)
        assert at.tolist() == thresholds
        assert curve.total == (24 if policy.discard == "mated" else 55)
        assert curve.policy == policy
        for limit in (0.2, 0.3, 0.5, 1.0):
            expected = _slow_pauc(errors, curve.total, limit)
            assert curve.pauc(limit) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("choices", POLICIES)
def test_the_policies_are_told_apart(choices: Any) -> None:
    """The loop above proves little where all policies agree."""
    scores, same, quality = _draw(0, 10, mated=150, impostors=200)
    mine = error_discard(scores, same, quality, DiscardPolicy(0.1, **choices))
    others = [
        error_discard(scores, same, quality, DiscardPolicy(0.1, **{**choices, key: value}))
        for key, value in (("threshold", "fixed"), ("discard", "all"), ("ties", "order"))
        if choices[key] != value and not (key == "threshold" and choices["discard"] == "mated")
    ]
    assert all(abs(mine.pauc(0.3) - other.pauc(0.3)) > 1e-6 for other in others)


def test_at_zero_it_is_the_roc() -> None:
    scores, same, quality = _draw(0, 10)
    for fmr in (0.05, 0.1, 0.3):
        expected = fnmr_at_fmr(roc(scores, same), fmr)
        assert error_discard(scores, same, quality, DiscardPolicy(fmr)).errors[0] == pytest.approx(expected)


def test_a_share_of_the_impostors_is_not_cut_short_by_rounding() -> None:
    """0.29 * 100 is 28.999999999999996 in floats; 29 of 100 false matches are an FMR of 0.29."""
    scores = np.append(np.arange(100.0), [70.0, 71.0])
    same = np.arange(102) >= 100
    curve = error_discard(scores, same, np.arange(102.0), DiscardPolicy(0.29))
    assert curve.thresholds[0] == np.nextafter(70.0, np.inf)
    assert curve.errors[0] == 0.5


def test_a_perfect_quality() -> None:
    """Of 50 mated pairs the 10 under the threshold go first: E(k) = (10 - k) / (50 - k)."""
    same = np.arange(150) < 50
    scores = np.where(same, 0.9, 0.5)
    scores[:10] = 0.1
    curve = error_discard(scores, same, np.arange(150.0), DiscardPolicy(0.01, discard="mated"))
    expected = [max(10 - k, 0) / (50 - k) for k in range(50)]
    assert curve.errors.tolist() == pytest.approx(expected)
    assert curve.pauc(0.2) == pytest.approx(sum(expected[:10]) / 50 / (0.2 * 0.2))
    assert curve.pauc(0.3) == pytest.approx(sum(expected[:15]) / 50 / (0.3 * 0.2))
    assert curve.pauc(0.21) == pytest.approx((sum(expected[:10]) / 50 + 0.01 * expected[10]) / (0.21 * 0.2))


@pytest.mark.parametrize("discard", ["all", "mated"])
def test_a_quality_that_says_nothing_is_1_on_average(discard: Any) -> None:
    """Over all orders of six pairs, with the threshold fixed."""
    scores = np.array([0.1, 0.7, 0.2, 0.9, 0.4, 0.3])
    same = np.array([True, True, True, True, False, False])
    policy = DiscardPolicy(0.5, discard=discard)
    paucs = [error_discard(scores, same, np.array(order, float), policy).pauc(0.6) for order in permutations(range(6))]
    assert np.mean(paucs) == pytest.approx(1)
    assert np.std(paucs) > 0.1


def test_equal_qualities_leave_together_or_in_order() -> None:
    scores, same, _ = _draw(0, None)
    for threshold, discard in product(("fixed", "re-estimated"), ("all", "mated")):
        policy = DiscardPolicy(0.1, threshold, discard, "group")  # type: ignore[arg-type]
        curve = error_discard(scores, same, np.ones(len(scores)), policy)
        assert curve.dropped.tolist() == [0] and curve.pauc(0.3) == pytest.approx(1)
    policy = DiscardPolicy(0.1, ties="order")
    ordered = error_discard(scores, same, np.ones(len(scores)), policy)
    listed = error_discard(scores, same, np.arange(float(len(scores))), policy)
    assert np.array_equal(ordered.errors, listed.errors)


def test_without_an_error_there_is_no_area() -> None:
    same = np.arange(40) < 20
    curve = error_discard(np.where(same, 0.9, 0.1), same, np.arange(40.0), DiscardPolicy(0.1))
    assert (curve.errors == 0).all()
    assert np.isnan(curve.pauc(0.2))


def test_where_no_mated_pair_is_left_there_is_no_error() -> None:
    """All mated pairs are the worst ones: gone after half, and undefined from there on."""
    same = np.arange(40) < 20
    scores = np.where(same, np.linspace(0, 1, 40), 0.2)
    curve = error_discard(scores, same, np.arange(40.0), DiscardPolicy(0.1))
    assert curve.end == 0.5
    assert np.isnan(curve.pauc(0.6)) and not np.isnan(curve.pauc(0.5))
    assert np.isnan(curve.at(np.array([0.0, 0.49, 0.5, 0.9]))).tolist() == [False, False, True, True]


def test_e_of_d_drops_int_dn_pairs() -> None:
    scores, same, quality = _draw(1, None)
    curve = error_discard(scores, same, quality, DiscardPolicy(0.1, ties="order"))
    d = np.array([0.0, 0.01, 0.1, 0.333, 0.5])
    assert curve.at(d).tolist() == curve.errors[[int(each * 55) for each in d]].tolist()
    assert curve.fractions[3] == 3 / 55


def test_mistakes_are_told() -> None:
    scores, same, quality = _draw(0, None)
    with pytest.raises(UserError, match=r"31 impostor pairs cannot show a false match rate of 0\.001") as caught:
        error_discard(scores, same, quality)
    assert "1000 impostor pairs" in caught.value.expected
    with pytest.raises(UserError, match="1 of 55 qualities are not finite, first pair 3"):
        error_discard(scores, same, np.where(np.arange(55) == 3, np.nan, quality), DiscardPolicy(0.1))
    with pytest.raises(ValueError, match="quality must be"):
        error_discard(scores, same, quality[:-1], DiscardPolicy(0.1))
    with pytest.raises(ValueError, match="re-estimated"):
        DiscardPolicy(threshold="moving")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="between 0 and 1"):
        DiscardPolicy(0.0)
    with pytest.raises(ValueError, match="discard limit"):
        error_discard(scores, same, quality, DiscardPolicy(0.1)).pauc(0.0)


def test_the_bootstrap_of_a_share_is_binomial() -> None:
    """Impostors all score 0 and mated pairs 1 or -1, so that E(0) of a resample is a share of 400 draws."""
    same = np.arange(800) < 400
    scores = np.where(same, 1.0, 0.0)
    scores[:80] = -1.0
    policy = DiscardPolicy(0.1, discard="mated")
    found = bootstrap_error_discard(scores, same, np.ones(800), policy, resamples=1000, seed=3)
    assert found.low[0] * 400 == pytest.approx(binom.ppf(0.025, 400, 0.2), abs=3)
    assert found.high[0] * 400 == pytest.approx(binom.ppf(0.975, 400, 0.2), abs=3)
    assert [*found.pauc[0.2], *found.pauc[0.3]] == pytest.approx([1, 1, 1, 1])
    assert (found.resamples, found.seed, found.level, found.undefined) == (1000, 3, 0.95, 0)
    assert found.fractions[[0, -1]].tolist() == [0, 0.3] and len(found.low) == len(found.high) == 61


def test_resamples_without_an_error_are_counted() -> None:
    """One error among five mated pairs: a resample misses it with probability 0.8^5."""
    same = np.arange(25) < 5
    scores = np.where(same, 1.0, 0.0)
    scores[0] = -1.0
    found = bootstrap_error_discard(scores, same, np.arange(25.0), DiscardPolicy(0.1, discard="mated"), resamples=1000)
    chance = 0.8**5
    assert abs(found.undefined / 1000 - chance) < 4 * np.sqrt(chance * (1 - chance) / 1000)
    assert np.isfinite(found.pauc[0.2]).all()


@pytest.mark.parametrize("choices", POLICIES)
def test_intervals_hold_the_estimate_and_repeat(choices: Any) -> None:
    scores, same, quality = _draw(2, 10, mated=100, impostors=100)
    policy = DiscardPolicy(0.05, **choices)
    curve = error_discard(scores, same, quality, policy)
    one, again, other = (
        bootstrap_error_discard(scores, same, quality, policy, resamples=100, seed=seed) for seed in (0, 0, 1)
    )
    for limit in (0.2, 0.3):
        low, high = one.pauc[limit]
        assert low < curve.pauc(limit) < high
    inside = (one.low <= curve.at(one.fractions)) & (curve.at(one.fractions) <= one.high)
    assert inside.mean() > 0.9
    assert one.pauc == again.pauc != other.pauc
    assert np.array_equal(one.low, again.low)


def test_qualities_are_compared_on_the_same_resamples() -> None:
    scores, same, quality = _draw(2, None)
    policy = DiscardPolicy(0.1)
    one, other = (bootstrap_error_discard(scores, same, each, policy, resamples=50) for each in (quality, -quality))
    assert (one.low[0], one.high[0]) == (other.low[0], other.high[0])  # E(0), to which quality is nothing
    assert one.pauc != other.pauc


def test_intervals_that_cannot_be_made_are_refused() -> None:
    scores, same, quality = _draw(0, None)
    with pytest.raises(ValueError, match="cannot resample 0 times"):
        bootstrap_error_discard(scores, same, quality, DiscardPolicy(0.1), resamples=0)
