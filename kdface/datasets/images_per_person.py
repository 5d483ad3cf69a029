"""Some images of each person of a set, or others of the same people that are held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from kdface.datasets.checks import bytes_of
from kdface.datasets.derived import Derived
from kdface.errors import UserError
from kdface.faces import FaceSet, Preprocessing, Sample
from kdface.randomness import generator


class ImagesPerPerson(Derived):
    """So many images of each person, drawn once; with `held_out`, the next ones of the same draw.

    The images of each person are shuffled by (seed, person) alone: taken are the first `number` of them, held out the
    `held_out` after these. A larger `number` of one seed holds the smaller one, and the two parts never share an image.
    People with fewer images give all they have; in the held-out part they keep their label without any image.

    Args:
        dataset: the faces.
        number: images of each person that are taken.
        held_out: 0: the set is what is taken; more: so many of the images that are not taken, of each person.
        seed: of the draw; not the run's, so that all runs are trained on the same images.

    Raises:
        UserError: nobody has an image left to hold out.
    """

    def __init__(
        self,
        dataset: FaceSet,
        number: Annotated[int, Ge(1)],
        held_out: Annotated[int, Ge(0)] = 0,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__(dataset)
        self.preprocessing: Preprocessing = dataset.preprocessing
        first, last = (number, number + held_out) if held_out else (0, number)
        labels = np.asarray(dataset.labels)
        chosen = [np.zeros(0, dtype=np.int64)]
        for label, person in enumerate(dataset.people):
            rows = np.flatnonzero(labels == label)
            order = generator(seed, "images", person).permutation(len(rows))
            chosen.append(rows[order[first:last]])
        self._rows = np.sort(np.concatenate(chosen))
        if not len(self._rows):
            most = int(np.bincount(labels).max(initial=0))
            raise UserError(
                f"number = {number} leaves nobody of {dataset.name} an image to hold out: nobody has more than {most}.",
                mend=f"number={max(1, most - held_out)}",
            )
        self._labels: NDArray[np.int64] = labels[self._rows].astype(np.int64)
        self._keys = [dataset.keys[row] for row in self._rows.tolist()]

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._labels

    @property
    def keys(self) -> Sequence[str]:
        return self._keys

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self._rows[index])]

    def raw_bytes(self, index: int) -> bytes:
        return bytes_of(self.dataset, int(self._rows[index]))
