"""Agglomerative clustering against scikit-learn, and the two F against counting by hand and by loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kdface.config.compose import compose
from kdface.config.locate import parameters
from kdface.errors import UserError
from kdface.evaluation.clustering import Clustering, agglomerative, bcubed_f, pairwise_f
from kdface.evaluation.protocol import Measured
from kdface.evaluation.scores import unit
from tests.evaluation.faces import Given, Listed

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
        return sorted(np.flatnonzero(found == cluster).tolist() for cluster in np.unique(found))

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


# Angles in degrees of a's, b's and c's images; squared distances: 10 degrees .0304, 30 .2679, 40 .4679.
ANGLES = {"a0": 0.0, "a1": 10.0, "b0": 40.0, "b1": 130.0, "c0": 135.0}
FACES = [(key[0], key) for key in ANGLES]


def _outcome(thresholds: tuple[float, ...], link: str = "average", angles: dict[str, float] | None = None) -> Any:
    faces = Listed(FACES)
    rows = {
        key: [3 * np.cos(np.radians(angle)), 3 * np.sin(np.radians(angle))] for key, angle in (angles or ANGLES).items()
    }
    return Clustering(faces, thresholds, link).evaluate(Given((faces, rows)))  # type: ignore[arg-type]


def test_the_protocol_by_hand() -> None:
    """At .1: a a | b | b c, one right pair of 2, of 2. At .4: a a b | b c is average, (.2679 + .4679) / 2 = .3679."""
    outcome = _outcome((0.1, 0.4))
    values = {name: metric.value for name, metric in outcome.metrics.items()}
    assert list(outcome.metrics)[:3] == [
        "bcubed_f@0.1",
        "bcubed_precision@0.1",
        "bcubed_recall@0.1",
    ]
    # Images a0 a1 b0 b1 c0, of their clusters 1 1 1 1/2 1/2 are theirs, of their people 1 1 1/2 1/2 1.
    assert values.pop("bcubed_precision@0.1") == pytest.approx(4 / 5)
    assert values.pop("bcubed_recall@0.1") == pytest.approx(4 / 5)
    assert values.pop("bcubed_f@0.1") == pytest.approx(4 / 5)
    assert [values.pop(f"pairwise_{metric}@0.1") for metric in ("f", "precision", "recall")] == pytest.approx(
        [1 / 2] * 3
    )
    # Then 2/3 2/3 1/3 1/2 1/2, recall as before; pairs a a, a b, a b, b c: one of 4 right, of 2 that belong together.
    assert values.pop("bcubed_precision@0.4") == pytest.approx(8 / 3 / 5)
    assert values.pop("bcubed_recall@0.4") == pytest.approx(4 / 5)
    assert values.pop("bcubed_f@0.4") == pytest.approx(2 * (8 / 15) * (4 / 5) / (8 / 15 + 4 / 5))
    assert values.pop("pairwise_precision@0.4") == pytest.approx(1 / 4)
    assert values.pop("pairwise_recall@0.4") == pytest.approx(1 / 2)
    assert values.pop("pairwise_f@0.4") == pytest.approx(1 / 3)
    assert values == {}
    found = {"images": 5, "images_embedded": 5, "people": 3, "clusters@0.1": 3, "clusters@0.4": 2}
    assert outcome.counts == found and outcome.symptoms == []


def test_the_link_is_the_protocols() -> None:
    """b0 is .2679 from a1 and .4679 from a0: within .3 by the nearest pair alone."""
    assert _outcome((0.3,), "single").counts["clusters@0.3"] == 2
    assert _outcome((0.3,), "average").counts["clusters@0.3"] == 3


def test_embeddings_without_a_direction_give_no_clusters() -> None:
    outcome = _outcome((0.1, 0.4), angles={**ANGLES, "b0": np.nan})
    assert len(outcome.metrics) == 12 and set(outcome.metrics.values()) == {Measured(None)}
    assert "NaN" in outcome.symptoms[0]


def test_a_collapsed_network_has_symptoms() -> None:
    assert "one vector" in _outcome((0.1,), angles=dict.fromkeys(ANGLES, 0.0)).symptoms[0]


@pytest.mark.parametrize("people", [["a", "a"], ["a", "b"]])
def test_people_that_cannot_be_told_apart_or_put_together(people: list[str]) -> None:
    with pytest.raises(UserError, match="2 images of"):
        Clustering(Listed([(name, f"{place}") for place, name in enumerate(people)]))


@pytest.mark.parametrize("thresholds", [(), (1.0, 1.0)])
def test_thresholds_that_are_none_or_equal(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="thresholds"):
        Clustering(Listed(FACES), thresholds)


@pytest.mark.parametrize("name", ["lfw_clusters", "toy_clusters"])
def test_the_shipped_tests_state_every_option_with_its_default(name: str) -> None:
    stated = compose([f"evaluation={name}"]).tree["evaluation"][name]
    known = {key: parameter.default for key, parameter in parameters(Clustering).items() if not parameter.required}
    assert {key: value for key, value in stated.items() if key not in ("_target_", "dataset")} == {
        **known,
        "thresholds": list(known["thresholds"]),
    }
