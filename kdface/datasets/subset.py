"""Subsets of the people in a set of faces, to measure the effect of training data (FaceNet, CVPR 2015, table 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray

from kdface.datasets.derived import Rows
from kdface.errors import UserError
from kdface.faces import FaceSet, Sample
from kdface.randomness import generator


class Renumbered(Rows):
    """Selected images of a set, with their people renumbered."""

    def __init__(self, dataset: FaceSet, rows: NDArray[np.int64]) -> None:
        super().__init__(dataset, rows)
        chosen, self._labels = np.unique(self._labels, return_inverse=True)
        self._people = [dataset.people[label] for label in chosen.tolist()]

    @property
    def people(self) -> Sequence[str]:
        """The remaining people, by their new labels."""
        return self._people

    def __getitem__(self, index: int) -> Sample:
        return replace(super().__getitem__(index), label=int(self._labels[index]))


class HeldOut(Renumbered):
    """A part of the training set held out for validation, or with `rest` the remainder to train on.

    Args:
        training_faces: the whole set.
        by: hold out people (all their images), or at least two images of each person with at least four.
        share: share to hold out, in (0, 1); at least two people, or two images of each.
        seed: of the draw, which ignores image order; independent of the run's, so that all runs hold out the same.
        rest: return the complement.

    Raises:
        UserError: nothing, or everything, would be held out.
    """

    def __init__(
        self,
        training_faces: FaceSet,
        by: Literal["people", "images"] = "people",
        share: Annotated[float, Gt(0), Lt(1)] = 0.1,
        seed: Annotated[int, Ge(0)] = 0,
        rest: bool = False,
    ) -> None:
        labels = np.asarray(training_faces.labels)
        held = np.zeros(len(labels), dtype=np.bool_)
        people = sorted(np.unique(labels).tolist(), key=lambda label: str(training_faces.people[label]))
        draw = generator(seed, "held out")
        if by == "people":
            number = max(2, round(share * len(people)))
            chosen = [people[index] for index in draw.permutation(len(people))[:number].tolist()]
            held = np.isin(labels, chosen)
        else:
            for person in people:
                own = sorted(np.flatnonzero(labels == person).tolist(), key=lambda row: training_faces.keys[row])
                if len(own) >= 4:
                    held[[own[index] for index in draw.permutation(len(own))[: max(2, round(share * len(own)))]]] = True
        if not held.any() or len(np.unique(labels[~held])) < 2:
            raise UserError(
                f"validation holds out {int(held.sum())} of {len(labels)} images of {training_faces.name}: "
                f"{'none to validate on' if not held.any() else 'too few people are left to train on'}.",
                fix="validation=none, or validation=NAME with its own test set (kdface list validation)",
            )
        super().__init__(training_faces, np.flatnonzero(held != rest))


class Subset(Renumbered):
    """Randomly drawn people of a set, with all their images. With equal seeds larger subsets contain smaller ones.

    Args:
        dataset: the faces.
        number: of people.
        seed: of the draw; independent of the run's, so that all runs are trained on the same people.

    Raises:
        UserError: the set has fewer people.
    """

    def __init__(self, dataset: FaceSet, number: Annotated[int, Ge(1)], seed: Annotated[int, Ge(0)] = 0) -> None:
        there = len(dataset.people)
        if number > there:
            raise UserError(f"number = {number}, but {dataset.name} has {there} people.", expected=f"at most {there}")
        chosen = generator(seed, "subset").permutation(there)[:number]
        super().__init__(dataset, np.flatnonzero(np.isin(np.asarray(dataset.labels), chosen)))


class PeopleWith(Renumbered):
    """The people of a set with at least `images` images, with all their images.

    Args:
        dataset: the faces.
        images: minimum number of images per person, such as 2: one to learn from and one to compare it with.

    Raises:
        UserError: fewer than two people are left.
    """

    def __init__(self, dataset: FaceSet, images: Annotated[int, Ge(1)]) -> None:
        labels = np.asarray(dataset.labels)
        counts = np.bincount(labels, minlength=len(dataset.people))
        if np.count_nonzero(counts >= images) < 2:
            most = int(np.sort(counts)[-2]) if len(counts) > 1 else 0
            raise UserError(
                f"images = {images} leaves {np.count_nonzero(counts >= images)} people of {dataset.name}.",
                expected="at least two people",
                fix=f"images={most}" if most else "",
            )
        super().__init__(dataset, np.flatnonzero(counts[labels] >= images))
