"""A number of images of each person in a set, or held-out images of the same people."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge

from kdface.datasets.derived import Rows
from kdface.errors import UserError
from kdface.faces import FaceSet
from kdface.randomness import generator


class ImagesPerPerson(Rows):
    """`number` images of each person, drawn once; with `held_out`, the next ones of the same draw.

    Each person's images are shuffled by (seed, person) alone: the first `number` are selected, the next `held_out` are
    held out. For a given seed a larger `number` contains the smaller one, and the two parts never share an image.
    People with fewer images contribute all they have; in the held-out part they keep their label without images.

    Args:
        dataset: the faces.
        number: images of each person to select.
        held_out: 0: the selected images; N: instead, N further images of each person.
        seed: of the draw; independent of the run's, so that all runs use the same images.

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
        first, last = (number, number + held_out) if held_out else (0, number)
        labels = np.asarray(dataset.labels)
        chosen = [np.zeros(0, dtype=np.int64)]
        for label, person in enumerate(dataset.people):
            rows = np.flatnonzero(labels == label)
            order = generator(seed, "images", person).permutation(len(rows))
            chosen.append(rows[order[first:last]])
        taken = np.sort(np.concatenate(chosen))
        if not len(taken):
            most = int(np.bincount(labels).max(initial=0))
            raise UserError(
                f"number = {number} leaves nobody of {dataset.name} an image to hold out: nobody has more than {most}.",
                fix=f"number={max(1, most - held_out)}" if most > 1 else "",
            )
        super().__init__(dataset, taken)
