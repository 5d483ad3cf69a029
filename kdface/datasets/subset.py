"""Some of the people of a set of faces: what more training data would bring (FaceNet, CVPR 2015, table 6)."""

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
    """Some images of a set, with their people numbered anew."""

    def __init__(self, dataset: FaceSet, rows: NDArray[np.int64]) -> None:
        super().__init__(dataset, rows)
        chosen, self._labels = np.unique(self._labels, return_inverse=True)
        self._people = [dataset.people[label] for label in chosen.tolist()]

    @property
    def people(self) -> Sequence[str]:
        """The people that are left, by their new labels."""
        return self._people

    def __getitem__(self, index: int) -> Sample:
        return replace(super().__getitem__(index), label=int(self._labels[index]))


class HeldOut(Renumbered):
    """A part of the training set that is kept from training, to validate with; `rest` is what is trained on.

    Args:
        training_faces: the whole set.
        by: people (all their images), or images of each person with at least four (two or more of them).
        share: how much, in (0, 1); at least two people, or two images of each.
        seed: of the draw; not the run's, so that all runs hold out the same. It does not depend on the images' order.
        rest: the complement.

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
                f"{'none to validate with' if not held.any() else 'too few people are left to train on'}.",
                fix="validation=none, or validation=NAME with its own test set (kdface list validation)",
            )
        super().__init__(training_faces, np.flatnonzero(held != rest))


class Subset(Renumbered):
    """Some people of a set, drawn once, with all their images. A larger subset of one seed holds the smaller ones.

    Args:
        dataset: the faces.
        number: of people.
        seed: of the draw; not the run's, so that all runs are trained on the same people.

    Raises:
        UserError: the set has fewer people.
    """

    def __init__(self, dataset: FaceSet, number: Annotated[int, Ge(1)], seed: Annotated[int, Ge(0)] = 0) -> None:
        there = len(dataset.people)
        if number > there:
            raise UserError(f"number = {number}, and {dataset.name} has {there} people.", expected=f"at most {there}")
        chosen = generator(seed, "subset").permutation(there)[:number]
        super().__init__(dataset, np.flatnonzero(np.isin(np.asarray(dataset.labels), chosen)))


class PeopleWith(Renumbered):
    """The people of a set who have at least `images` images, with all their images.

    Args:
        dataset: the faces.
        images: what a person must have to stay, such as 2: one to learn from and one to compare it with.

    Raises:
        UserError: fewer than two people have so many.
    """

    def __init__(self, dataset: FaceSet, images: Annotated[int, Ge(1)]) -> None:
        labels = np.asarray(dataset.labels)
        counts = np.bincount(labels, minlength=len(dataset.people))
        if np.count_nonzero(counts >= images) < 2:
            most = int(np.sort(counts)[-2]) if len(counts) > 1 else 0
            raise UserError(
                f"images = {images} leaves {np.count_nonzero(counts >= images)} people of {dataset.name}.",
                expected="two people or more",
                fix=f"images={most}" if most else "",
            )
        super().__init__(dataset, np.flatnonzero(counts[labels] >= images))
