"""Who is who: the rows of each person, and the cosines between images of one person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdface.errors import DataError
from kdface.faces import FaceSet

Rows = NDArray[np.intp]


def rows_of_people(faces: FaceSet) -> list[Rows]:
    """The rows of each person who has images; people sorted by name, their rows by key, whatever the set's order.

    Left out is "?", which stands for people whom a file does not tell apart.
    """
    found: dict[int, list[int]] = {}
    for row, label in enumerate(faces.labels.tolist()):
        found.setdefault(label, []).append(row)
    named = sorted((faces.people[label], rows) for label, rows in found.items() if faces.people[label] != "?")
    return [np.array(sorted(rows, key=lambda row: faces.keys[row])) for _, rows in named]


def require_mates(people: list[Rows], faces: FaceSet, source: str, others: bool) -> None:
    """Raise `DataError` if an image has no other of the same person, or (`others`) there is one person only."""
    paired = sum(len(rows) for rows in people if len(rows) > 1)
    if paired < len(faces):
        raise DataError(
            f"{source} compares each image with others of the same person, and {len(faces) - paired} of the "
            f"{len(faces)} images of {faces.name} have none.",
            expected="two or more images of each person, and everybody named",
            fix="leave out the people with one image: dataset.min_images=2 (of image_folder); or take a source that "
            "needs no identities: serfiq, faceqan, froq, grafiqs, embedding_norm",
        )
    if others and len(people) < 2:
        raise DataError(f"{source} compares each image with other people, and {faces.name} has one person.")


def mated_cosine(unit: NDArray[np.float32], people: list[Rows]) -> NDArray[np.float64]:
    """(N,) mean cosine of each image to the other images of its person; NaN if there is none.

    With S the sum of the person's n unit embeddings, (z_i . S - z_i . z_i) / (n - 1).
    """
    found = np.full(len(unit), np.nan)
    for rows in people:
        if len(rows) > 1:
            own = unit[rows].astype(np.float64)
            found[rows] = (own @ own.sum(0) - np.square(own).sum(1)) / (len(rows) - 1)
    return found
