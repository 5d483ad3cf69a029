"""Ten-fold accuracy against plain restatements: InsightFace's procedure, and all midpoints in turn."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.verification import (
    FoldRate,
    consecutive_folds,
    tenfold_accuracy,
    tenfold_accuracy_exact,
)

Array = NDArray[Any]
Same = NDArray[np.bool_]
Candidates = Callable[[list[float]], list[float]]


def _slow_accuracy(pairs: list[tuple[float, bool]], threshold: float) -> float:
    return sum((distance < threshold) == same for distance, same in pairs) / len(pairs)


def _slow_blocks(pairs: int, folds: int) -> list[list[int]]:
    """Rows of each fold as KFold cuts them unshuffled: the first (pairs mod folds) are longer by one."""
    blocks, start = [], 0
    for fold in range(folds):
        size = pairs // folds + (1 if fold < pairs % folds else 0)
        blocks.append(list(range(start, start + size)))
        start += size
    return blocks


def _slow_folded(
    distances: Array, same: Same, blocks: list[list[int]], candidates_of: Candidates
) -> tuple[list[float], list[float]]:
    accuracies, thresholds = [], []
    pairs = list(zip(distances.tolist(), same.tolist(), strict=True))
    for test in blocks:
        train = [pairs[row] for block in blocks for row in block if block is not test]
        best, best_accuracy = math.nan, -1.0
        for threshold in candidates_of([distance for distance, _ in train]):
            accuracy = _slow_accuracy(train, threshold)
            if accuracy > best_accuracy:  # the first of equals stays
                best, best_accuracy = threshold, accuracy
        thresholds.append(best)
        accuracies.append(_slow_accuracy([pairs[row] for row in test], best))
    return accuracies, thresholds


def _grid(_: list[float]) -> list[float]:
    return [step * 0.01 for step in range(400)]


def _midpoints(values: list[float]) -> list[float]:
    distinct = sorted(set(values))
    between = [(a + b) / 2 for a, b in pairwise(distinct)]
    return [0.0, *between, math.inf]


def _draw(seed: int, pairs: int, on_grid: bool) -> tuple[Array, Same]:
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < 0.5
    distances = np.clip(rng.normal(1.6, 0.4, pairs) - 0.6 * same, 0, 4)
    return (np.round(distances / 0.05).astype(int) * 5 * 0.01 if on_grid else distances), same


CASES = [_draw(seed, pairs, on_grid) for seed in range(3) for pairs in (20, 103) for on_grid in (False, True)]


@pytest.mark.parametrize(("distances", "same"), CASES)
def test_insightface_procedure(distances: Array, same: Same) -> None:
    accuracies, thresholds = _slow_folded(distances, same, _slow_blocks(len(same), 10), _grid)
    found = tenfold_accuracy(distances, same)
    assert found.per_fold.tolist() == accuracies
    assert found.thresholds == pytest.approx(thresholds, abs=1e-12)
    assert found.mean == pytest.approx(statistics.fmean(accuracies))
    assert found.std == pytest.approx(statistics.pstdev(accuracies))
    assert found.standard_error == pytest.approx(statistics.stdev(accuracies) / math.sqrt(10))


@pytest.mark.parametrize(("distances", "same"), CASES)
def test_exact_thresholds(distances: Array, same: Same) -> None:
    accuracies, thresholds = _slow_folded(distances, same, _slow_blocks(len(same), 10), _midpoints)
    found = tenfold_accuracy_exact(distances, same)
    assert found.per_fold.tolist() == accuracies
    assert found.thresholds.tolist() == thresholds


@pytest.mark.parametrize("accuracy", [tenfold_accuracy, tenfold_accuracy_exact])
def test_given_folds_need_not_lie_in_order(accuracy: Callable[..., FoldRate]) -> None:
    distances, same = _draw(5, 103, on_grid=False)
    fold = consecutive_folds(103)
    order = np.random.default_rng(0).permutation(103)
    shuffled = accuracy(distances[order], same[order], fold[order])
    assert shuffled.per_fold.tolist() == accuracy(distances, same).per_fold.tolist()


def test_a_distance_on_the_threshold_is_rejected() -> None:
    # Fold 1 (0.5 same, 0.51 different) is judged rightly by 0.51 alone; at 0.51 fold 0 rejects its genuine
    # pair of 0.51.
    distances = np.array([0.51, 2.0, 0.5, 0.51])
    same = np.array([True, False, True, False])
    found = tenfold_accuracy(distances, same, np.array([0, 0, 1, 1]))
    assert found.thresholds[0] == pytest.approx(0.51)
    assert found.per_fold[0] == 0.5


def test_the_threshold_comes_from_the_other_folds() -> None:
    # Fold 0 alone asks for a threshold in (0.2, 0.4], fold 1 alone for one in (1.2, 1.4]; each gets the
    # other's.
    distances = np.array([0.2, 0.4, 1.2, 1.4])
    same = np.array([True, False, True, False])
    found = tenfold_accuracy_exact(distances, same, np.array([7, 7, 9, 9]))  # any numbers name a fold
    assert found.thresholds == pytest.approx([1.3, 0.3])
    assert found.per_fold.tolist() == [0.5, 0.5]


def test_exact_thresholds_may_accept_none_or_all() -> None:
    distances = np.array([1.0, 2.0, 3.0, 1.5, 2.5, 3.5])
    fold = np.array([0, 0, 0, 1, 1, 1])
    none = tenfold_accuracy_exact(distances, np.array([False, False, True, True, False, False]), fold)
    assert none.thresholds[0] == pytest.approx(2.0)  # midpoint of 1.5 and 2.5
    assert none.thresholds[1] == 0.0  # accepting the pair at 3.0 costs more than it brings
    everything = tenfold_accuracy_exact(distances, np.array([True, False, True, True, True, True]), fold)
    assert everything.thresholds[0] == math.inf


def test_neighbouring_floats_are_parted() -> None:
    low = 1.0
    high = math.nextafter(low, 2)  # (low + high) / 2 rounds to low
    distances = np.array([low, high, low, high])
    same = np.array([True, False, True, False])
    found = tenfold_accuracy_exact(distances, same, np.array([0, 0, 1, 1]))
    assert found.per_fold.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("pairs", [10, 11, 19, 6000])
def test_consecutive_folds(pairs: int) -> None:
    slow = [fold for fold, block in enumerate(_slow_blocks(pairs, 10)) for _ in block]
    assert consecutive_folds(pairs).tolist() == slow


def test_one_fold_has_no_others() -> None:
    with pytest.raises(UserError, match="one fold"):
        tenfold_accuracy(np.array([0.1, 0.9]), np.array([True, False]), np.array([3, 3]))
    with pytest.raises(UserError, match="9 pairs cannot be cut into 10 folds"):
        tenfold_accuracy(np.linspace(0, 1, 9), np.arange(9) < 4)
    with pytest.raises(UserError, match="into 1 folds"):
        consecutive_folds(9, 1)


@pytest.mark.parametrize("accuracy", [tenfold_accuracy, tenfold_accuracy_exact])
def test_bad_input_is_told(accuracy: Callable[..., FoldRate]) -> None:
    distances, same = _draw(0, 20, on_grid=False)
    distances[4] = np.nan
    with pytest.raises(UserError, match="1 of 20 scores are not finite, first pair 4"):
        accuracy(distances, same)
    with pytest.raises(ValueError, match="fold must be"):
        accuracy(np.ones(20), same, np.zeros(3, dtype=np.int64))
