"""Some of the people of a set of faces: what more training data would bring (FaceNet, CVPR 2015, table 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from kdface.datasets.checks import bytes_of, check
from kdface.datasets.derived import Derived
from kdface.errors import UserError
from kdface.faces import FaceSet, Sample
from kdface.randomness import generator


class Subset(Derived):
    """So many people of a set, drawn once, with all their images. A larger subset of one seed holds the smaller ones.

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
        super().__init__(dataset)
        self.preprocessing = dataset.preprocessing
        chosen = np.sort(generator(seed, "subset").permutation(there)[:number])
        labels = np.asarray(dataset.labels)
        self._rows = np.flatnonzero(np.isin(labels, chosen))
        self._labels: NDArray[np.int64] = np.searchsorted(chosen, labels[self._rows]).astype(np.int64)
        self._people = [dataset.people[each] for each in chosen.tolist()]
        self._keys = [dataset.keys[row] for row in self._rows.tolist()]

    @property
    def people(self) -> Sequence[str]:
        return self._people

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._labels

    @property
    def keys(self) -> Sequence[str]:
        return self._keys

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return replace(self.dataset[int(self._rows[index])], label=int(self._labels[index]))

    def check(self, index: int) -> None:
        check(self.dataset, int(self._rows[index]))

    def raw_bytes(self, index: int) -> bytes:
        return bytes_of(self.dataset, int(self._rows[index]))
