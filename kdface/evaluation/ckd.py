"""CKD's other measures: equal error rates over four images of each person, and how compact people's clusters are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from kdface.errors import UserError
from kdface.evaluation.curves import eer, eer_midpoint, roc
from kdface.evaluation.embed import Embedder
from kdface.evaluation.folds import files_of, require_same, symptoms_of, without_direction
from kdface.evaluation.people import people_of
from kdface.evaluation.protocol import Metric, Outcome
from kdface.evaluation.scores import Embeddings, all_pair_scores, all_pair_scores_with_self, unit
from kdface.faces import FaceSet


class CKDVerification:
    """Equal error rate over all pairs of four images of each person.

    The four are those at 0, o, 2o and 3o, o = floor(n / 4), of a person's n keys in their order. `ckd/eer` compares
    each two images once and none with itself, on the exact curve; people with fewer than four images are left out of
    it and counted. `ckd/eer_official` is for comparison with published numbers: the whole matrix of scores, in which a
    quarter of the genuine ones compare an image with itself, at the vertex of scikit-learn's curve with the smallest
    |FPR - FNR|; people with fewer than four images stand in it with one image four times. But for these and for the
    steps of the curve, official <= clean <= 4/3 official. The matrix of n people takes 128 n^2 bytes, its curve
    several times as much.

    Args:
        dataset: the images.

    Raises:
        UserError: fewer than two people have four images.
    """

    def __init__(self, dataset: FaceSet) -> None:
        self.dataset = dataset
        self.datasets = (dataset,)
        self.official = {person: _four(keys) for person, keys in files_of(dataset).items()}
        self.chosen = four_each(dataset)

    def evaluate(self, embed: Embedder) -> Outcome:
        """Embed the chosen images, score all pairs, measure."""
        keys = sorted({key for four in self.official.values() for key in four})
        place = {key: row for row, key in enumerate(keys)}
        embeddings = embed(self.dataset, keys)
        everyone, clean = (
            ([place[key] for four in some.values() for key in four], [name for name in some for _ in range(4)])
            for some in (self.official, self.chosen)
        )
        counts = {
            "images": len(keys),
            "images_embedded": len(embeddings),
            "people": len(self.chosen),
            "people_left_out": len(self.official) - len(self.chosen),
            "pairs": len(clean[0]) * (len(clean[0]) - 1) // 2,
        }
        names = people_of(self.dataset)
        symptoms = symptoms_of(embeddings, [names[key] for key in keys])
        if without_direction(embeddings):
            return Outcome({"ckd/eer": Metric(None), "ckd/eer_official": Metric(None)}, counts, symptoms)
        official = eer_midpoint(roc(*all_pair_scores_with_self(embeddings[everyone[0]], everyone[1])))
        scores, same = all_pair_scores(embeddings[clean[0]], clean[1])
        metrics = {"ckd/eer": Metric(eer(roc(scores, same))), "ckd/eer_official": Metric(official)}
        return Outcome(metrics, counts, symptoms, scores, same)


class CrossModalVerification:
    """Equal error rate of one modality against the other: `ckd/cross/eer`.

    Four images of each person, chosen as in `CKDVerification`: each in `dataset` against each other one in `probes`. An
    image is never compared with itself in the other modality; (a, b) and (b, a) are two comparisons, since the two
    sides see different pictures. People with fewer than four images are left out and counted.

    Args:
        dataset: one modality, e.g. faces.
        probes: the same images by key in the other, e.g. the periocular view.

    Raises:
        UserError: fewer than two people have four images, or `probes` lacks images or names other people.
    """

    def __init__(self, dataset: FaceSet, probes: FaceSet) -> None:
        self.dataset = dataset
        self.probes = probes
        self.datasets = (dataset, probes)
        self.chosen = four_each(dataset)
        self.people = len(files_of(dataset))
        require_same(dataset, probes, [key for four in self.chosen.values() for key in four])

    def evaluate(self, embed: Embedder) -> Outcome:
        """Embed the chosen images on both sides, score all pairs of different images, measure."""
        keys = [key for four in self.chosen.values() for key in four]
        people = np.array([person for person in self.chosen for _ in range(4)])
        left, right = embed(self.dataset, keys), embed(self.probes, keys)
        rows = np.concatenate([left, right])
        counts = {
            "images": len(keys),
            "images_embedded": len(rows),
            "people": len(self.chosen),
            "people_left_out": self.people - len(self.chosen),
            "pairs": len(keys) * (len(keys) - 1),
        }
        symptoms = symptoms_of(rows, [*people, *people])
        if without_direction(rows):
            return Outcome({"ckd/cross/eer": Metric(None)}, counts, symptoms)
        other = ~np.eye(len(keys), dtype=np.bool_)
        scores = np.clip(unit(left) @ unit(right).T, -1.0, 1.0)[other]
        same = (people[:, None] == people[None, :])[other]
        return Outcome({"ckd/cross/eer": Metric(eer(roc(scores, same)))}, counts, symptoms, scores, same)


class ClusterSeparation:
    """How compact people are and how far apart: the Davies-Bouldin index of all images, `ckd/davies_bouldin`.

    Args:
        dataset: the images.

    Raises:
        UserError: fewer than two people.
    """

    def __init__(self, dataset: FaceSet) -> None:
        self.dataset = dataset
        self.datasets = (dataset,)
        self.people = people_of(dataset)
        if len(set(self.people.values())) < 2:
            raise UserError(f"{dataset.name} has one person, and nobody to be apart from.", expected="two or more")

    def evaluate(self, embed: Embedder) -> Outcome:
        """Embed everything, measure."""
        embeddings, people = embed(self.dataset, list(self.people)), list(self.people.values())
        counts = {"images": len(people), "images_embedded": len(embeddings), "people": len(set(people))}
        symptoms = symptoms_of(embeddings, people)
        found = None if without_direction(embeddings) else davies_bouldin(embeddings, people)
        value = found if found is not None and np.isfinite(found) else None
        return Outcome({"ckd/davies_bouldin": Metric(value)}, counts, symptoms)


def davies_bouldin(embeddings: Embeddings, people: Sequence[Any] | NDArray[Any]) -> float:
    """Davies-Bouldin index of unit embeddings: the mean over people i of max over j != i of (S_i + S_j) / M_ij.

    S_i is the mean Euclidean distance of a person's unit embeddings from their mean, M_ij the distance of two means
    (Davies, Bouldin, PAMI 1979, with both exponents as in scikit-learn). Lower is better. It is infinite where the
    means of two people coincide (scikit-learn passes over them).

    Args:
        embeddings: (images, D), not necessarily normalised.
        people: (images,) names or numbers.

    Raises:
        UserError: an embedding is zero or not finite.
        ValueError: fewer than two people, or not one name for each embedding.
    """
    rows = unit(embeddings)
    names, numbers = np.unique(np.asarray(people), return_inverse=True)
    if numbers.shape != (len(rows),) or len(names) < 2:
        raise ValueError(f"{len(rows)} embeddings, {numbers.shape} names, {len(names)} people: expected two or more")
    count = np.bincount(numbers)
    means = np.zeros((len(names), rows.shape[1]))
    np.add.at(means, numbers, rows)
    means /= count[:, None]
    spread = np.bincount(numbers, np.linalg.norm(rows - means[numbers], axis=1)) / count
    apart = cdist(means, means)
    np.fill_diagonal(apart, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(apart > 0, (spread[:, None] + spread[None, :]) / apart, np.inf)
    return float(ratios.max(axis=1).mean())


def four_each(dataset: FaceSet) -> dict[str, list[str]]:
    """Four keys of each person who has as many, chosen as CKD does. Raises `UserError` for fewer than two people."""
    files = files_of(dataset)
    able = {person: _four(keys) for person, keys in files.items() if len(keys) >= 4}
    if len(able) < 2:
        raise UserError(
            f"{dataset.name}: {len(able)} of {len(files)} people have four images.", expected="two people or more"
        )
    return able


def _four(keys: Sequence[str]) -> list[str]:
    step = len(keys) // 4
    return [keys[place * step] for place in range(4)]
