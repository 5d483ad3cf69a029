"""Error versus discard against a loop that drops pairs one by one, and against closed forms."""

from __future__ import annotations

from functools import cache
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from kdface.errors import UserError
from kdface.evaluation.curves import fnmr_at_fmr, roc
from kdface.evaluation.edc import EDC, DiscardPolicy, bootstrap_error_discard, error_discard, lowest_fmr

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


def _slow_nearest(scores: Array, same: Array, quality: Array, policy: DiscardPolicy) -> list[float]:
    """E after dropping k = 0, 1, 2, ... pairs in the order of quality, the threshold as pyeer sets it."""
    order = np.argsort(quality, kind="stable")
    errors = []
    for k in range(len(order)):
        kept = np.sort(order[k:]) if policy.discard == "all" else order
        left = order[k:][same[order[k:]]] if policy.discard == "all" else order[same[order]][k:]
        basis = np.arange(len(scores)) if policy.threshold == "fixed" or policy.discard == "mated" else kept
        impostors = scores[basis][~same[basis]]
        if not len(left) or not len(impostors):
            break
        reached = [(abs((impostors >= t).sum() / len(impostors) - policy.fmr), float(t)) for t in scores[basis]]
        threshold = min(t for distance, t in reached if distance == min(reached)[0])
        errors.append(float((scores[left] < threshold).mean()))
    return errors


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


@pytest.mark.parametrize("course", ["any", "rising", "falling", "tied"])
@pytest.mark.parametrize("fmr", [0.002, 0.01, 0.1, 0.6])
def test_thresholds_of_many_impostors_against_sorting_at_each_step(course: str, fmr: float) -> None:
    """Enough impostors that most cannot set a threshold, in orders in which few and in which all of them can."""
    scores, same, quality = _draw(0, None, mated=400, impostors=900)
    if course == "tied":
        scores = np.round(scores * 20) / 20
    elif course != "any":
        scores = np.where(same, scores, quality if course == "rising" else 1 - quality)
    curve = error_discard(scores, same, quality, DiscardPolicy(fmr, "re-estimated"))
    order = np.argsort(quality)
    for k, error, threshold in zip(curve.dropped, curve.errors, curve.thresholds, strict=True):
        left, genuine = scores[order[k:]], same[order[k:]]
        impostors = np.sort(left[~genuine])[::-1]
        accepted = max(m for m in range(len(impostors)) if m / len(impostors) <= fmr)
        assert threshold == np.nextafter(impostors[accepted], np.inf)
        assert error == np.mean(left[genuine] < threshold)


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


@pytest.mark.parametrize(("threshold", "discard"), product(("fixed", "re-estimated"), ("all", "mated")))
@pytest.mark.parametrize("levels", [None, 3, 10])
@pytest.mark.parametrize("fmr", [0.04, 0.1, 0.29, 0.5])
def test_the_nearest_rate_against_a_loop(threshold: Any, discard: Any, levels: int | None, fmr: float) -> None:
    """CR-FIQA's rule; scores of a few levels skip rates, and genuine ones may lie above all impostors or not."""
    policy = DiscardPolicy(fmr, threshold, discard, "order", "nearest")
    for seed in range(4):
        scores, same, quality = _draw(seed, levels)
        found, _ = _every_step(error_discard(scores, same, quality, policy))
        assert found.tolist() == pytest.approx(_slow_nearest(scores, same, quality, policy), abs=1e-12)


def test_the_rate_that_is_suggested_is_taken_of_every_number_of_impostors() -> None:
    for impostors in range(1, 2000):
        suggested = float(lowest_fmr(impostors))
        assert 1 / impostors <= suggested <= 1.1 / impostors
        assert impostors == 1 or DiscardPolicy(suggested).resolved_by(impostors)
        if impostors > 1:
            assert DiscardPolicy(1 / impostors).impostors_needed == impostors


def test_e_of_d_drops_int_dn_pairs() -> None:
    scores, same, quality = _draw(1, None)
    curve = error_discard(scores, same, quality, DiscardPolicy(0.1, ties="order"))
    d = np.array([0.0, 0.01, 0.1, 0.333, 0.5])
    assert curve.at(d).tolist() == curve.errors[[int(share * 55) for share in d]].tolist()
    assert curve.fractions[3] == 3 / 55


def test_mistakes_are_told() -> None:
    scores, same, quality = _draw(0, None)
    with pytest.raises(UserError, match=r"31 impostor pairs cannot resolve a false match rate of 0\.001") as caught:
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
    one, other = (bootstrap_error_discard(scores, same, grade, policy, resamples=50) for grade in (quality, -quality))
    assert (one.low[0], one.high[0]) == (other.low[0], other.high[0])  # E(0), to which quality is nothing
    assert one.pauc != other.pauc


def _world(seed: tuple[int, ...], people: int, images: int, impostors: int) -> tuple[Array, Array, Array, Any, Any]:
    """All mated pairs of people with a quality of their own, and random impostor pairs; images have noise of their own.

    Scores, labels, qualities; the people and the images of both sides of each pair.
    """
    rng = np.random.default_rng(seed)
    person, owner = rng.normal(size=people), np.repeat(np.arange(people), images)
    quality, noise = person[owner] + rng.normal(size=len(owner)), 0.5 * rng.normal(size=len(owner))
    inner = np.array(np.triu_indices(images, 1))
    mated = (inner[:, None, :] + images * np.arange(people)[None, :, None]).reshape(2, -1)
    other = rng.integers(len(owner), size=(2, impostors))
    other = other[:, owner[other[0]] != owner[other[1]]]
    sides = np.concatenate([mated, other], axis=1)
    same, worth = np.arange(sides.shape[1]) < mated.shape[1], quality[sides].min(axis=0)
    scores = np.where(same, 2 + 0.5 * worth, 0.3 * person[owner[sides]].sum(axis=0))
    scores += noise[sides].sum(axis=0) + 0.3 * rng.normal(size=len(same))
    return scores, same, worth, (owner[sides[0]], owner[sides[1]]), (sides[0], sides[1])


@cache
def _truth() -> tuple[float, float]:
    whole = [error_discard(*_world((9, k), 3000, 6, 60000)[:3], DiscardPolicy(0.05)) for k in range(3)]
    return float(np.mean([curve.errors[0] for curve in whole])), float(np.mean([curve.pauc(0.3) for curve in whole]))


def _coverage(layout: tuple[int, int, int], worlds: int, resamples: int, over: str) -> tuple[float, float]:
    """How many 95 % intervals of E(0) and of pAUC hold the value of the whole population."""
    policy, (errors, pauc) = DiscardPolicy(0.05), _truth()
    held = np.zeros(2)
    for number in range(worlds):
        scores, same, worth, people, images = _world((1, number), *layout)
        units = {"people": people, "images": images, "pairs": None}[over]
        found = bootstrap_error_discard(scores, same, worth, policy, (0.3,), resamples, seed=number, units=units)
        held += found.low[0] <= errors <= found.high[0], found.pauc[0.3][0] <= pauc <= found.pauc[0.3][1]
    return float(held[0] / worlds), float(held[1] / worlds)


def test_intervals_over_people_hold_the_truth_and_those_over_pairs_do_not() -> None:
    """40 intervals of 40 resamples; fewer than 33 of 40 at a coverage of 0.95 have a probability under 0.001."""
    assert min(_coverage((30, 12, 1500), 40, 40, "people")) >= 33 / 40
    assert max(_coverage((30, 12, 1500), 40, 40, "pairs")) <= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("layout", [(30, 12, 1500), (60, 6, 1000), (200, 2, 300)])
def test_coverage(layout: tuple[int, int, int]) -> None:
    assert min(_coverage(layout, 200, 200, "people")) >= 0.9


def test_a_pair_counts_as_often_as_its_people_are_drawn() -> None:
    """Two people, drawn (2, 0), (1, 1) or (0, 2): only the second has pairs of both, and so one curve is left."""
    scores, same = np.array([1.0, -1.0, 0.0, 0.0]), np.array([True, True, False, False])
    units = (np.array([0, 1, 0, 1]), np.array([0, 1, 1, 0]))
    given = (scores, same, np.ones(4), DiscardPolicy(0.5), (0.3,))
    found = bootstrap_error_discard(*given, resamples=50, units=units)
    assert found.low[0] == found.high[0] == 0.5
    with pytest.raises(ValueError, match="units must be"):
        bootstrap_error_discard(*given, units=(same, same[:2]))


def test_intervals_that_cannot_be_made_are_refused() -> None:
    scores, same, quality = _draw(0, None)
    with pytest.raises(ValueError, match="cannot resample 0 times"):
        bootstrap_error_discard(scores, same, quality, DiscardPolicy(0.1), resamples=0)
