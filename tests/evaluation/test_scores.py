"""Cosines and distances against plain Python; the all-pairs matrices against double loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation import scores as module
from kdface.evaluation.calibration import expected_calibration_error
from kdface.evaluation.ckd import davies_bouldin
from kdface.evaluation.curves import eer, roc
from kdface.evaluation.edc import DiscardPolicy, error_discard
from kdface.evaluation.identification import cmc, mate_ranks
from kdface.evaluation.scores import (
    all_pair_scores,
    all_pair_scores_with_self,
    cosine_scores,
    largest_within,
    score_statistics,
    squared_distances,
)
from kdface.evaluation.validation import val_at_far, val_far
from kdface.evaluation.verification import tenfold_accuracy, tenfold_accuracy_exact

Array = NDArray[Any]


def _slow_cosine(a: Array, b: Array) -> float:
    dot = math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(float(x) ** 2 for x in a)) / math.sqrt(math.fsum(float(x) ** 2 for x in b))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("block", [1, 40, 1 << 24])
def test_pair_scores(dtype: type[np.floating[Any]], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 30, 8)).astype(dtype)
    slow = [_slow_cosine(a, b) for a, b in zip(left, right, strict=True)]
    assert cosine_scores(left, right) == pytest.approx(slow, abs=1e-13)
    assert squared_distances(left, right) == pytest.approx([2 - 2 * cosine for cosine in slow], abs=1e-13)
    assert cosine_scores(left, right).dtype == np.float64


def test_cosines_stay_in_range() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(500, 3))
    assert cosine_scores(rows, 3 * rows).max() <= 1
    assert cosine_scores(rows, -rows).min() >= -1


def test_a_small_distance_does_not_cancel() -> None:
    # ||(1, 0) - (1, e)/sqrt(1 + e^2)||^2 = e^2 to first order, where 2 - 2 cos rounds to 0.
    distance = squared_distances(np.array([[1.0, 0.0]]), np.array([[1.0, 1e-9]]))
    assert distance[0] == pytest.approx(1e-18, rel=1e-6)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_rows_without_a_direction_are_told(bad: float) -> None:
    rows = np.ones((5, 4))
    rows[3] = bad
    with pytest.raises(UserError, match="1 of 5 embeddings are zero or not finite, the first in row 3"):
        cosine_scores(np.ones((5, 4)), rows)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="alike"):
        cosine_scores(np.ones((5, 4)), np.ones((4, 4)))
    with pytest.raises(ValueError, match="labels"):
        all_pair_scores(np.ones((5, 4)), [0, 1])


def _four_each(people: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), 4)
    return rng.normal(size=(people, 16))[labels] + 1.3 * rng.normal(size=(4 * people, 16)), labels


def test_all_pairs_are_each_unordered_pair_once() -> None:
    rows, labels = _four_each(5)
    slow, slow_same = [], []
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            slow.append(_slow_cosine(rows[i], rows[j]))
            slow_same.append(bool(labels[i] == labels[j]))
    found, same = all_pair_scores(rows, labels)
    assert found == pytest.approx(slow, abs=1e-13)
    assert same.tolist() == slow_same
    # ckd.md section 5: 6C genuine and 8C(C-1) impostor pairs.
    assert (int(same.sum()), int((~same).sum())) == (6 * 5, 8 * 5 * 4)


def test_the_official_matrix_counts_self_comparisons_and_every_pair_twice() -> None:
    rows, labels = _four_each(5)
    found, same = all_pair_scores_with_self(rows, [f"person {label}" for label in labels])
    assert (int(same.sum()), int((~same).sum())) == (16 * 5, 16 * 5 * 4)
    assert int((found == 1.0).sum()) == 4 * 5  # a quarter of the genuine ones
    matrix = found.reshape(20, 20)
    assert matrix[7, 3] == matrix[3, 7] == pytest.approx(_slow_cosine(rows[3], rows[7]), abs=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_self_comparisons_lower_the_eer_by_up_to_a_quarter(seed: int) -> None:
    # ckd.md section 5: E' is where FMR = 0.75 FNMR on the clean curve, so E' <= EER <= 4/3 E'.
    rows, labels = _four_each(40, seed)
    clean = eer(roc(*all_pair_scores(rows, labels)))
    official = eer(roc(*all_pair_scores_with_self(rows, labels)))
    assert 0.02 < official < clean <= 4 / 3 * official + 1e-9


def test_statistics_by_hand() -> None:
    found = score_statistics(np.array([0.8, 0.1, 0.6, -0.1]), np.array([True, False, True, False]))
    assert found.g_mean == pytest.approx(0.7)
    assert found.i_mean == pytest.approx(0.0)
    assert found.fdr == pytest.approx(0.7**2 / (0.01 + 0.01))


def test_the_fisher_ratio_of_constant_scores_is_not_available() -> None:
    assert score_statistics(np.array([1.0, 0.0]), np.array([True, False])).fdr is None


TAKEN = [
    pytest.param(lambda values: values.tolist(), id="list"),
    pytest.param(torch.from_numpy, id="tensor"),
    pytest.param(lambda values: torch.from_numpy(values.astype(int if values.dtype == bool else float)), id="0 and 1"),
    pytest.param(
        lambda v: torch.from_numpy(v).requires_grad_() if v.dtype == np.float64 else torch.from_numpy(v), id="gradient"
    ),
]


@pytest.mark.parametrize("given", TAKEN)
def test_lists_and_tensors_are_taken_as_arrays_are(given: Callable[[NDArray[Any]], Any]) -> None:
    rng = np.random.default_rng(0)
    same, fold = rng.random(40) < 0.5, np.repeat(np.arange(4), 10)
    scores, quality, left, right = rng.random(40) + 0.5 * same, rng.random(40), rng.random((40, 3)), rng.random((40, 3))
    policy = DiscardPolicy(0.2)
    chances, people = rng.dirichlet(np.ones(3), 40), rng.integers(3, size=40)

    def everything(take: Callable[[NDArray[Any]], Any]) -> list[Any]:
        pairs = take(scores), take(same)
        distances, folds = take(-scores), take(fold)
        return [
            eer(roc(*pairs)),
            score_statistics(*pairs),
            tenfold_accuracy(distances, pairs[1], folds).mean,
            tenfold_accuracy_exact(distances, pairs[1], folds).mean,
            val_far(distances, pairs[1], -1.0),
            [rate.mean for rate in val_at_far(distances, pairs[1], 0.2, folds) or ()],
            error_discard(*pairs, take(quality), policy).pauc(0.3),
            expected_calibration_error(take(chances), take(people)),
            cosine_scores(take(left), take(right)).sum(),
            squared_distances(take(left), take(right)).sum(),
            all_pair_scores(take(left), take(people))[0].sum(),
            cmc(mate_ranks(take(left), people.tolist(), take(right), people.tolist())).tolist(),
            davies_bouldin(take(left), take(people)),
        ]

    assert everything(given) == everything(lambda values: values)


def test_half_precision_is_read_as_it_is() -> None:
    scores = torch.tensor([0.5, 0.25, 0.75], dtype=torch.bfloat16)
    assert roc(scores, [True, False, True]).thresholds.tolist() == [np.inf, 0.75, 0.5, 0.25]


def test_many_pairs_are_scored_as_each_alone() -> None:
    """More numbers than one block of work holds, and a last block that is not full."""
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(600, 512)).astype(np.float32) for _ in range(2))
    distances, cosines = squared_distances(left, right), cosine_scores(left, right)
    for row in range(0, 600, 7):
        a, b = (side[row].astype(np.float64) / np.linalg.norm(side[row].astype(np.float64)) for side in (left, right))
        assert distances[row] == pytest.approx(((a - b) ** 2).sum(), rel=1e-13)
        assert cosines[row] == pytest.approx(float(a @ b), abs=1e-15)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.07, 0.29, 0.3, 0.57, 1.0])
def test_largest_count_within_a_rate_is_that_of_a_search(rate: float) -> None:
    sizes = np.arange(1, 301)
    slow = [max(m for m in range(n + 1) if m / n <= rate) for n in sizes.tolist()]
    assert largest_within(rate, sizes).tolist() == slow
    assert int(largest_within(0.29, np.array(100))) == 29  # 0.29 * 100 is 28.999...
