"""CKD's other metrics: equal error rates over a few images per person, and cluster compactness.

As in the official code, embeddings do not include the mirror image unless requested (`mirror`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.compared import Compared, require_alone, require_comparable, require_same, rows_of
from kdface.evaluation.curves import eer, eer_midpoint, roc
from kdface.evaluation.embed import Embedder, Tested
from kdface.evaluation.health import symptoms_of, without_direction
from kdface.evaluation.people import files_of, people_of
from kdface.evaluation.protocol import Measured, Outcome
from kdface.evaluation.scores import Embeddings, all_pair_scores, all_pair_scores_with_self, unit
from kdface.faces import FaceSet

Images = Annotated[int, Ge(2)]


class CKDVerification:
    """Equal error rate over all pairs of k images of each person, four in the official code.

    Selects the images at 0, o, 2o, ..., o = floor(n / k), of a person's n sorted keys; of near copies, such as frames
    of a video (`group`), only the first counts among the n. `eer` compares each pair of different images once, on the
    exact curve; people with fewer than k images are excluded and counted. `eer_official` is for comparison with
    published numbers: the full score matrix, in which one of k genuine scores compares an image with itself, at the
    vertex of scikit-learn's curve with the smallest |FPR - FNR|; people with fewer than k images contribute one image
    k times. Apart from these and the steps of the curve, official <= clean <= k / (k - 1) official. The matrix of p
    people takes 8 (k p)^2 bytes, its curve several times as much.

    Args:
        dataset: the images.
        images: k; results match the official code only for 4.
        group: a regular expression for the part of a key shared by near copies, see
            `kdface.evaluation.people.files_of`; none: no near copies.
        mirror: add the embedding of the mirror image to that of each image; the official code does not.

    Raises:
        UserError: fewer than two people have k images.
    """

    def __init__(self, dataset: FaceSet, images: Images = 4, group: str | None = None, mirror: bool = False) -> None:
        self.dataset = dataset
        self.datasets = (dataset,)
        self.images = images
        self.mirror = mirror
        self.official = {person: _spaced(keys, images) for person, keys in first_of_groups(dataset, group).items()}
        self.chosen = images_each(dataset, images, group)

    def evaluate(self, embed: Embedder) -> Outcome:
        """Embed the selected images, score all pairs, compute the metrics."""
        keys = sorted({key for those in self.official.values() for key in those})
        place = {key: row for row, key in enumerate(keys)}
        embeddings = embed(self.dataset, keys, self.mirror)
        everyone, clean = (
            ([place[key] for those in some.values() for key in those], [name for name in some for _ in some[name]])
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
        choices = {"mirror": self.mirror, "images_per_person": self.images}
        if without_direction(embeddings):
            none = {"eer": Measured(None), "eer_official": Measured(None)}
            return Outcome(none, counts, symptoms, choices=choices)
        official = eer_midpoint(roc(*all_pair_scores_with_self(embeddings[everyone[0]], everyone[1])))
        scores, same = all_pair_scores(embeddings[clean[0]], clean[1])
        metrics = {"eer": Measured(eer(roc(scores, same))), "eer_official": Measured(official)}
        return Outcome(metrics, counts, symptoms, scores, same, choices)


class CrossModalVerification:
    """Equal error rate of one modality against the other: `cross/eer`.

    Compares each of k images per person, selected as in `CKDVerification`, in `dataset` with each other one in
    `probes`. An image is never compared with itself in the other modality; (a, b) and (b, a) are two comparisons, since
    the modalities differ. People with fewer than k images are excluded and counted.

    Args:
        dataset: one modality, e.g. faces.
        probes: the same images by key in the other, e.g. the periocular view.
        images, group, mirror: see `CKDVerification`.
        compare: embeddings or logits, see `kdface.evaluation.compared.rows_of`.

    Raises:
        UserError: fewer than two people have k images, `probes` lacks images or names other people, or `mirror` with
            logits.
    """

    def __init__(
        self,
        dataset: FaceSet,
        probes: FaceSet,
        images: Images = 4,
        group: str | None = None,
        mirror: bool = False,
        compare: Compared = "embeddings",
    ) -> None:
        require_alone(compare, mirror)
        self.compare: Compared = compare
        self.dataset = dataset
        self.probes = probes
        self.datasets = (dataset, probes)
        self.images = images
        self.mirror = mirror
        self.chosen = images_each(dataset, images, group)
        self.people = len(files_of(dataset))
        require_same(dataset, probes, [key for those in self.chosen.values() for key in those])

    def require(self, network: Tested, where: str) -> None:
        """See `kdface.evaluation.compared.require_comparable`."""
        require_comparable(self.compare, network, where)

    def evaluate(self, embed: Embedder) -> Outcome:
        """Embed the selected images of both modalities, score all pairs of different images, compute the metrics."""
        keys = [key for those in self.chosen.values() for key in those]
        people = np.array([person for person, those in self.chosen.items() for _ in those])
        left, right = (rows_of(embed, side, keys, self.compare, self.mirror) for side in self.datasets)
        rows = np.concatenate([left, right])
        counts = {
            "images": len(keys),
            "images_embedded": len(rows),
            "people": len(self.chosen),
            "people_left_out": self.people - len(self.chosen),
            "pairs": len(keys) * (len(keys) - 1),
        }
        symptoms = symptoms_of(rows, [*people, *people])
        choices = {"mirror": self.mirror, "images_per_person": self.images, "compare": self.compare}
        if without_direction(rows):
            return Outcome({"cross/eer": Measured(None)}, counts, symptoms, choices=choices)
        other = ~np.eye(len(keys), dtype=np.bool_)
        scores = np.clip(unit(left) @ unit(right).T, -1.0, 1.0)[other]
        same = (people[:, None] == people[None, :])[other]
        return Outcome({"cross/eer": Measured(eer(roc(scores, same)))}, counts, symptoms, scores, same, choices)


class ClusterSeparation:
    """Compactness and separation of people: the Davies-Bouldin index of all images, `davies_bouldin`.

    Args:
        dataset: the images.
        group: as in `CKDVerification`: only the first of near copies is used, which would make people look compact.
        mirror: see `CKDVerification`.

    Raises:
        UserError: fewer than two people.
    """

    def __init__(self, dataset: FaceSet, group: str | None = None, mirror: bool = False) -> None:
        self.dataset = dataset
        self.datasets = (dataset,)
        self.mirror = mirror
        self.people = {key: person for person, keys in first_of_groups(dataset, group).items() for key in keys}
        if len(set(self.people.values())) < 2:
            raise UserError(f"{dataset.name} has only one person.", expected="at least two")

    def evaluate(self, embed: Embedder) -> Outcome:
        """Embed all images and compute the metrics."""
        embeddings, people = embed(self.dataset, list(self.people), self.mirror), list(self.people.values())
        counts = {"images": len(people), "images_embedded": len(embeddings), "people": len(set(people))}
        symptoms = symptoms_of(embeddings, people)
        found = None if without_direction(embeddings) else davies_bouldin(embeddings, people)
        value = found if found is not None and np.isfinite(found) else None
        return Outcome({"davies_bouldin": Measured(value)}, counts, symptoms, choices={"mirror": self.mirror})


def davies_bouldin(embeddings: Embeddings, people: Sequence[Any] | NDArray[Any]) -> float:
    """Davies-Bouldin index of unit embeddings: the mean over people i of max over j != i of (S_i + S_j) / M_ij.

    S_i is the mean Euclidean distance of a person's unit embeddings from their mean, M_ij the distance of two means
    (Davies, Bouldin, PAMI 1979, with both exponents as in scikit-learn). Lower is better. Infinite if the means of two
    people coincide (scikit-learn skips these).

    Args:
        embeddings: (images, D), not necessarily normalised.
        people: (images,) names or numbers.

    Raises:
        UserError: an embedding is zero or not finite.
        ValueError: fewer than two people, or not one name per embedding.
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
    from scipy.spatial.distance import cdist  # imported lazily: SciPy takes half a second

    apart = cdist(means, means)
    np.fill_diagonal(apart, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(apart > 0, (spread[:, None] + spread[None, :]) / apart, np.inf)
    return float(ratios.max(axis=1).mean())


def first_of_groups(dataset: FaceSet, group: str | None) -> dict[str, list[str]]:
    """Each person's keys, sorted, without near copies; see `kdface.evaluation.people.files_of`."""
    return {person: [keys[0] for keys in groups] for person, groups in files_of(dataset, group).items()}


def images_each(dataset: FaceSet, images: int, group: str | None = None) -> dict[str, list[str]]:
    """`images` keys of each person with enough images, selected as in `CKDVerification`.

    Raises:
        UserError: fewer than two people.
    """
    if images < 2:
        raise UserError(f"images={images}: there is nothing to compare an image with.", expected="at least 2")
    files = first_of_groups(dataset, group)
    able = {person: _spaced(keys, images) for person, keys in files.items() if len(keys) >= images}
    if len(able) < 2:
        raise UserError(
            f"{dataset.name}: {len(able)} of {len(files)} people have {images} images"
            f"{'' if group is None else ' that are not near copies'}.",
            expected="at least two people",
            fix="use fewer images per person",
        )
    return able


def _spaced(keys: Sequence[str], images: int) -> list[str]:
    step = len(keys) // images
    return [keys[place * step] for place in range(images)]
