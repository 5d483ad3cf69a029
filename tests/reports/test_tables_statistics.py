"""Numbers of textbooks and of a slow computation, and the cases in which there is nothing to test."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from kdface.reports.tables.statistics import compare, holm, summarise


def test_mean_and_sample_deviation() -> None:
    found = summarise([1.0, 2.0, 3.0, 4.0], "std")
    assert (found.mean, found.n) == (2.5, 4)
    assert found.spread == pytest.approx((5 / 3) ** 0.5)  # squares 2.25 + 0.25 + 0.25 + 2.25 over 3


def test_the_t_interval_of_three_is_wide() -> None:
    # t(2, 0.975) = 4.302653, s = 1, n = 3
    assert summarise([1.0, 2.0, 3.0], "t95").spread == pytest.approx(4.302653 / 3**0.5, abs=1e-6)


def test_one_seed_has_no_spread() -> None:
    assert summarise([0.5], "std").spread is None
    assert summarise([0.5], "t95").spread is None


def test_the_paired_test_is_scipys_on_the_shared_seeds() -> None:
    rng = np.random.default_rng(0)
    ours, base = rng.normal(0.9, 0.01, 6), rng.normal(0.88, 0.01, 6)
    found = compare({**dict(enumerate(ours.tolist())), 17: 0.0}, {**dict(enumerate(base.tolist())), 99: 1.0})
    expected = stats.ttest_rel(ours, base)
    interval = expected.confidence_interval(0.95)
    assert found is not None and found.n == 6
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(float((ours - base).mean()))


def test_two_seeds_by_hand() -> None:
    # Differences 1 and 3: mean 2, standard error 1, t = 2 with one degree of freedom; that t is Cauchy's distribution.
    found = compare({0: 1.0, 1: 3.0}, {0: 0.0, 1: 0.0})
    assert found is not None
    assert found.p == pytest.approx(1 - 2 * np.arctan(2) / np.pi)


@pytest.mark.parametrize(("values", "n"), [({0: 0.6, 1: 0.7}, 2), ({0: 0.6}, 1)])
def test_equal_differences_and_one_seed_are_not_tested(values: dict[int, float], n: int) -> None:
    found = compare(values, {0: 0.5, 1: 0.6})
    assert found is not None
    assert (found.p, found.low, found.n) == (None, None, n)
    assert found.difference == pytest.approx(0.1)


def test_no_shared_seed_is_no_comparison() -> None:
    assert compare({0: 1.0}, {1: 1.0}) is None


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    """Holm closes Bonferroni's test: p adjusted is the largest m min(p) over all sets of rows that hold it."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        p = (rng.random(5) ** 3).tolist()
        slow = []
        for k in range(5):
            sets = [set(s) for size in range(1, 6) for s in itertools.combinations(range(5), size) if k in s]
            slow.append(max(min(1.0, len(s) * min(p[i] for i in s)) for s in sets))
        assert holm(p) == pytest.approx(slow)
    assert holm([]) == []
