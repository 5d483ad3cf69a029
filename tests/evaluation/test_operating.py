"""Thresholds at false-accept rates against counting by hand, and their intervals against resampling by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.evaluation.bootstrap import resamples_of
from kdface.evaluation.operating import operating_points, thresholds_of_resamples
from kdface.randomness import generator


def _list(
    pairs: int, people: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.str_], NDArray[np.str_]]:
    """Scores with many ties, of pairs of few people."""
    rng = np.random.default_rng(seed)
    left, right = rng.integers(people, size=(2, pairs))
    right = np.where(np.arange(pairs) % 3 == 0, left, right)
    same = left == right
    scores = np.round(rng.normal(0.5 * same, 0.3), 2)
    return scores, same, left.astype(str), right.astype(str)


def _slow(scores: NDArray[np.float64], same: NDArray[np.bool_], far: float) -> float:
    """The lowest of the scores at which at most a share `far` of the impostors is accepted."""
    fits = [score for score in scores.tolist() if np.mean(scores[~same] >= score) <= far]
    return min(fits, default=np.inf)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_thresholds_are_the_lowest_that_keep_to_the_rate(seed: int) -> None:
    scores, same, left, right = _list(900, 30, seed)
    found = operating_points(scores, same, (left, right), resamples=20)
    impostors = int((~same).sum())
    assert [point["far"] for point in found] == [far for far in (1e-2, 1e-3, 1e-4) if far * impostors >= 1] == [1e-2]
    for point in found:
        assert point["threshold"] == _slow(scores, same, point["far"])
        assert point["tar"] == np.mean(scores[same] >= point["threshold"])
        assert (point["low"] or -1) <= (point["high"] or 2)


def test_resamples_are_counted_as_if_their_pairs_were_written_down() -> None:
    scores, same, left, right = _list(120, 12, 3)
    scores[np.flatnonzero(~same)[0]] = 3  # where this impostor is drawn, nothing keeps to the lowest rate
    fars = (0.2, 0.05, 0.001)
    found = thresholds_of_resamples(scores, same, (left, right), fars, 30, seed=4)
    draws = resamples_of(same, (left, right), generator(4, "operating points"))
    unbounded = 0
    for row in found:
        drawn = np.repeat(np.arange(len(scores)), next(draws))
        expected = [_slow(scores[drawn], same[drawn], far) for far in fars]
        assert row.tolist() == expected
        unbounded += expected[-1] == np.inf
    assert 0 < unbounded < 30  # both kinds were met


def test_percentiles_are_those_of_the_resamples() -> None:
    scores, same, left, right = _list(900, 30, 5)
    (point,) = operating_points(scores, same, (left, right), resamples=200, seed=1)
    spread = np.sort(thresholds_of_resamples(scores, same, (left, right), (1e-2,), 200, 1)[:, 0])
    assert (point["low"], point["high"]) == (spread[5], spread[194])  # 2.5 % of 200 on either side
    people = point["high"] - point["low"]
    (alone,) = operating_points(scores, same, None, resamples=200, seed=1)
    assert people > 0 and alone["threshold"] == point["threshold"]


def test_what_impostors_cannot_show_is_left_out() -> None:
    same = np.arange(300) < 100
    assert operating_points(np.arange(300.0), same, fars=(1e-3,)) == []  # 200 impostors
    scores = np.where(same, 0.1, 0.9)  # every impostor is over every genuine pair, all alike
    assert operating_points(scores, same, fars=(1e-2,), resamples=5) == []


def test_a_bound_that_resamples_do_not_have_is_null() -> None:
    """Where the best impostor is drawn twice it is too many, and the one genuine pair over it is often not drawn."""
    scores = np.concatenate([[1.0], np.linspace(0, 0.5, 9), np.linspace(0, 0.99, 200)])
    same = np.arange(210) < 10
    left = np.concatenate([[f"g{number}" for number in range(10)], np.arange(200).astype(str)])
    right = np.concatenate([left[:10], np.full(200, "b")])
    (point,) = operating_points(scores, same, (left, right), fars=(5e-3,), resamples=100)
    assert point["threshold"] == 0.99 and point["low"] is not None and point["high"] is None
