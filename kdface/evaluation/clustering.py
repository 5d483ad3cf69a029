"""Cluster embeddings, and compare clusters with people: agglomerative clustering, pairwise and B-cubed F."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.embed import Embedder
from kdface.evaluation.health import symptoms_of, without_direction
from kdface.evaluation.people import people_of, sample_of_people
from kdface.evaluation.protocol import Measured, Outcome
from kdface.evaluation.scores import Embeddings, unit
from kdface.faces import FaceSet

Link = Literal["average", "complete", "single"]
Threshold = Annotated[float, Gt(0), Le(4)]


def merges(embeddings: Embeddings, link: Link = "average") -> NDArray[np.float64]:
    """The sequence of cluster merges, nearest first: (images - 1, 4), SciPy's linkage matrix.

    Takes up to 8 n^2 bytes (0.95 GB for 10,879 images) and O(n^2) time.

    Args:
        embeddings: (images, D), not necessarily normalised.
        link: the distance of two clusters: mean, maximum or minimum squared distance over their pairs of images.

    Raises:
        UserError: an embedding is zero or not finite, or there are fewer than two.
    """
    if len(embeddings) < 2:
        raise UserError(f"{len(embeddings)} embeddings cannot be clustered.", expected="two or more")
    from scipy.cluster.hierarchy import linkage  # imported lazily: SciPy takes half a second
    from scipy.spatial.distance import pdist

    return np.asarray(linkage(pdist(unit(embeddings), "sqeuclidean"), link), dtype=np.float64)


def clusters_within(tree: NDArray[np.float64], threshold: float) -> NDArray[np.int64]:
    """The clusters of `merges` up to and including a squared distance of `threshold`: (images,) numbers."""
    from scipy.cluster.hierarchy import fcluster

    return np.asarray(fcluster(tree, threshold, "distance") - 1, dtype=np.int64)


def agglomerative(embeddings: Embeddings, threshold: float, link: Link = "average") -> NDArray[np.int64]:
    """Merge the two nearest clusters until none are within `threshold` of each other: (images,) cluster numbers.

    FaceNet clusters agglomeratively but states neither linkage nor threshold. See `merges` for cost and errors.

    Args:
        embeddings: (images, D), not necessarily normalised.
        threshold: maximum squared distance of unit embeddings, 0..4, at which clusters are merged.
        link: see `merges`.
    """
    return clusters_within(merges(embeddings, link), threshold)


class ClusterScore(NamedTuple):
    """Attributes:
    precision: share of clustered pairs that belong together.
    recall: share of pairs that belong together and are clustered.
    f: their harmonic mean.
    """

    precision: float
    recall: float
    f: float


def pairwise_f(clusters: Sequence[Any] | NDArray[Any], labels: Sequence[Any] | NDArray[Any]) -> ClusterScore:
    """Precision and recall over pairs of images. A rate without any pairs is 1."""
    count = _overlaps(clusters, labels)
    right = _pairs(count.images)
    return _score(_share(right, _pairs(count.of_cluster)), _share(right, _pairs(count.of_person)))


def bcubed_f(clusters: Sequence[Any] | NDArray[Any], labels: Sequence[Any] | NDArray[Any]) -> ClusterScore:
    """Mean over images of the share of its cluster that shows its person, and of its person's images in its cluster.

    Each image counts itself (Amigo et al., Information Retrieval 2009), so large clusters do not dominate as they do
    over pairs.
    """
    count = _overlaps(clusters, labels)
    squares, images = np.square(count.images.astype(np.float64)), count.images.sum()
    precision = (squares / count.of_cluster[count.cluster]).sum() / images
    recall = (squares / count.of_person[count.person]).sum() / images
    return _score(float(precision), float(recall))


class _Overlaps(NamedTuple):
    """Non-empty cells of the contingency table of people and clusters: row, column and images; and its margins."""

    person: NDArray[np.int64]
    cluster: NDArray[np.int64]
    images: NDArray[np.int64]
    of_person: NDArray[np.int64]
    of_cluster: NDArray[np.int64]


def _overlaps(clusters: Any, labels: Any) -> _Overlaps:
    found, people = np.asarray(clusters), np.asarray(labels)
    if found.shape != people.shape or found.ndim != 1 or len(found) == 0:
        raise ValueError(f"clusters and labels must be (images,) alike, got {found.shape} and {people.shape}")
    column, row = np.unique(found, return_inverse=True)[1], np.unique(people, return_inverse=True)[1]
    cells, images = np.unique(np.stack([row, column]), axis=1, return_counts=True)
    return _Overlaps(cells[0], cells[1], images, np.bincount(row), np.bincount(column))


def _pairs(counts: NDArray[np.int64]) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _score(precision: float, recall: float) -> ClusterScore:
    both = precision + recall
    return ClusterScore(precision, recall, 2 * precision * recall / both if both else 0.0)


_SCORES = {"bcubed": bcubed_f, "pairwise": pairwise_f}


class Clustering:
    """Agglomerative clustering of all images of a set, compared with its people.

    Metrics for each threshold t: `bcubed_f@t`, `bcubed_precision@t`, `bcubed_recall@t` over
    images and `pairwise_f@t`, ... over pairs of images (see `bcubed_f`, `pairwise_f`). The counts include the number of
    `clusters@t` and of people. Thresholds are fixed in advance: the best of many, selected on the same images, would
    be biased. People with one image count: leaving them alone is correct.

    Args:
        dataset: the images; time and memory are quadratic in their number (see `merges`).
        thresholds: maximum squared distances of unit embeddings, 0..4, at which clusters are merged.
        link: the distance of two clusters: mean, maximum or minimum over their pairs of images.

    Raises:
        UserError: no person has two images, there is only one person, or thresholds are empty or duplicate.
    """

    def __init__(
        self, dataset: FaceSet, thresholds: tuple[Threshold, ...] = (0.8, 1.0, 1.2), link: Link = "average"
    ) -> None:
        self.dataset = dataset
        self.datasets: tuple[FaceSet, ...] = (dataset,)
        self.thresholds = tuple(thresholds)
        self.link = link
        self.people = people_of(dataset)
        if not thresholds or len(set(self._names())) < len(self._names()):
            raise UserError(
                f"thresholds = {list(thresholds)}.", expected="distinct squared distances above 0 and up to 4"
            )
        if not 1 < len(set(self.people.values())) < len(self.people):
            raise UserError(
                f"{dataset.name} has {len(self.people)} images of {len(set(self.people.values()))} people.",
                expected="at least two people, one of them with at least two images",
            )

    def evaluate(self, embed: Embedder) -> Outcome:
        """Embed all images, cluster, and compute the metrics."""
        people = list(self.people.values())
        embeddings = embed(self.dataset, list(self.people))
        counts = {"images": len(people), "images_embedded": len(embeddings), "people": len(set(people))}
        symptoms = symptoms_of(embeddings, people)
        if without_direction(embeddings):
            return Outcome({name: Measured(None) for name in self._names()}, counts, symptoms)
        tree = merges(embeddings, self.link)
        values: list[float] = []
        for threshold in self.thresholds:
            found = clusters_within(tree, threshold)
            counts[f"clusters@{threshold:g}"] = len(np.unique(found))
            for score in _SCORES.values():
                precision, recall, f = score(found, people)
                values += [f, precision, recall]
        metrics = {name: Measured(value) for name, value in zip(self._names(), values, strict=True)}
        outcome = Outcome(metrics, counts, symptoms)
        outcome.sample, outcome.sample_people = sample_of_people(embeddings, people)
        return outcome

    def _names(self) -> list[str]:
        return [
            f"{over}_{what}@{threshold:g}"
            for threshold in self.thresholds
            for over in _SCORES
            for what in ("f", "precision", "recall")
        ]
