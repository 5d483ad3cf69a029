"""Agglomerative clustering against scikit-learn, and the two F against counting by hand and by loops."""

from __future__ import annotations

import numpy as np
import pytest

from kdface.errors import UserError
from kdface.evaluation.clustering import agglomerative, bcubed_f, pairwise_f
from kdface.evaluation.scores import unit

# Seven images of people a (4), b (2), c (1) in clusters 0: a a a b, 1: a b, 2: c.
CLUSTERS = [0, 0, 0, 0, 1, 1, 2]
PEOPLE = ["a", "a", "a", "b", "a", "b", "c"]


def test_pairwise_f_by_hand() -> None:
    """3 right pairs (of a in cluster 0) of 6 + 1 put together and of 6 + 1 that belong together."""
    assert pairwise_f(CLUSTERS, PEOPLE) == pytest.approx((3 / 7, 3 / 7, 3 / 7))


def test_bcubed_f_by_hand() -> None:
    """Precision (3 * 3/4 + 1/4 + 2 * 1/2 + 1) / 7; recall (3 * 3/4 + 1/2 + 1/4 + 1/2 + 1) / 7: both 4.5 / 7."""
    assert bcubed_f(CLUSTERS, PEOPLE) == pytest.approx((4.5 / 7, 4.5 / 7, 4.5 / 7))


@pytest.mark.parametrize("seed", range(4))
def test_both_agree_with_loops_over_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters, people = rng.integers(0, 6, 30), rng.integers(0, 9, 30)
    rows = range(30)
    together = {(i, j) for i in rows for j in rows if clusters[i] == clusters[j]}
    belong = {(i, j) for i in rows for j in rows if people[i] == people[j]}
    right = {(i, j) for i, j in together & belong if i < j}
    found = pairwise_f(clusters, people)
    assert found.precision == pytest.approx(len(right) / sum(i < j for i, j in together))
    assert found.recall == pytest.approx(len(right) / sum(i < j for i, j in belong))
    precision = np.mean([np.mean(people[clusters == clusters[i]] == people[i]) for i in rows])
    recall = np.mean([np.mean(clusters[people == people[i]] == clusters[i]) for i in rows])
    assert bcubed_f(clusters, people) == pytest.approx(
        (precision, recall, 2 * precision * recall / (precision + recall))
    )


def test_perfect_clusters_and_none() -> None:
    people = [0, 0, 1, 1, 1]
    assert pairwise_f([5, 5, 2, 2, 2], people) == bcubed_f([5, 5, 2, 2, 2], people) == (1, 1, 1)
    assert pairwise_f([0, 1, 2, 3, 4], people) == (1, 0, 0)
    assert bcubed_f([0, 1, 2, 3, 4], people) == pytest.approx((1, 2 / 5, 4 / 7))
    with pytest.raises(ValueError, match="alike"):
        bcubed_f([0, 1], people)


def test_merging_stops_at_the_threshold() -> None:
    """Unit vectors at 0, 10, 40 and 90 degrees: D is .0304 of the first two, and up to .4679, 1.0 of the third."""
    angles = np.radians([0, 10, 40, 90])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1], [5], [2], [3]])

    def groups(threshold: float, link: str) -> list[list[int]]:
        found = agglomerative(points, threshold, link)  # type: ignore[arg-type]
        return sorted(np.flatnonzero(found == each).tolist() for each in np.unique(found))

    assert groups(0.03, "average") == [[0], [1], [2], [3]]
    assert groups(0.031, "average") == [[0, 1], [2], [3]]
    assert groups(0.27, "single") == [[0, 1, 2], [3]]  # 2 - 2 cos 30 = .2679
    assert groups(0.27, "average") == [[0, 1], [2], [3]]  # (.2679 + .4679) / 2 = .3679
    assert groups(0.37, "average") == [[0, 1, 2], [3]]
    assert groups(0.46, "complete") == [[0, 1], [2], [3]]
    assert groups(0.47, "complete") == [[0, 1, 2], [3]]
    assert groups(4.0, "complete") == [[0, 1, 2, 3]]


@pytest.mark.parametrize("link", ["average", "complete", "single"])
def test_clusters_are_those_of_scikit_learn(link: str) -> None:
    sklearn = pytest.importorskip("sklearn.cluster")
    rng = np.random.default_rng(0)
    rows = unit(np.repeat(rng.normal(size=(6, 4)), 10, axis=0) + 0.4 * rng.normal(size=(60, 4)))
    distances = 2 - 2 * rows @ rows.T
    model = sklearn.AgglomerativeClustering(n_clusters=None, metric="precomputed", linkage=link, distance_threshold=0.3)
    expected = model.fit_predict(np.clip(distances, 0, 4))
    found = agglomerative(rows, 0.3, link)  # type: ignore[arg-type]
    assert 1 < len(set(expected)) < 60
    assert (
        len(set(zip(found.tolist(), expected.tolist(), strict=True))) == len(set(expected)) == len(set(found.tolist()))
    )


def test_fewer_than_two_embeddings_are_told() -> None:
    with pytest.raises(UserError, match="1 embeddings cannot be clustered"):
        agglomerative(np.ones((1, 4)), 1.0)
