"""Clusters of embeddings, and how well they are people: agglomerative clustering, pairwise and B-cubed F."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from kdface.errors import UserError
from kdface.evaluation.scores import Embeddings, unit


def agglomerative(
    embeddings: Embeddings, threshold: float, link: Literal["average", "complete", "single"] = "average"
) -> NDArray[np.int64]:
    """Merge the two nearest clusters until none are within `threshold` of each other: (images,) cluster numbers.

    FaceNet clusters agglomeratively and names neither linkage nor threshold. Takes 4 n^2 bytes and O(n^2) time.

    Args:
        embeddings: (images, D), not necessarily normalised.
        threshold: largest squared distance of unit embeddings, 0..4, at which clusters are merged.
        link: the distance of two clusters: the mean over their pairs of images, the largest, or the smallest.

    Raises:
        UserError: an embedding is zero or not finite, or there are fewer than two.
    """
    if len(embeddings) < 2:
        raise UserError(f"{len(embeddings)} embeddings cannot be clustered.", expected="two or more")
    merges = linkage(pdist(unit(embeddings), "sqeuclidean"), link)
    return np.asarray(fcluster(merges, threshold, "distance") - 1, dtype=np.int64)


class ClusterScore(NamedTuple):
    """Attributes:
    precision: of what was put together, the share that belongs together.
    recall: of what belongs together, the share that was put together.
    f: their harmonic mean.
    """

    precision: float
    recall: float
    f: float


def pairwise_f(clusters: Sequence[Any] | NDArray[Any], labels: Sequence[Any] | NDArray[Any]) -> ClusterScore:
    """Precision and recall over pairs of images. Where there are no pairs to be wrong about, the rate is 1."""
    count = _overlaps(clusters, labels)
    right = _pairs(count.images)
    return _score(_share(right, _pairs(count.of_cluster)), _share(right, _pairs(count.of_person)))


def bcubed_f(clusters: Sequence[Any] | NDArray[Any], labels: Sequence[Any] | NDArray[Any]) -> ClusterScore:
    """Mean over images of the share of its cluster that is its person, and of its person that is in its cluster.

    Each image counts itself (Amigo et al., Information Retrieval 2009), so large clusters do not outweigh the rest as
    they do over pairs.
    """
    count = _overlaps(clusters, labels)
    squares, images = np.square(count.images.astype(np.float64)), count.images.sum()
    precision = (squares / count.of_cluster[count.cluster]).sum() / images
    recall = (squares / count.of_person[count.person]).sum() / images
    return _score(float(precision), float(recall))


class _Overlaps(NamedTuple):
    """Cells of the table of people and clusters that are not empty: its row, column and images; sums of both kinds."""

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
