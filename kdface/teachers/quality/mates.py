"""The rows of each person, and the cosines between images of one person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdface.errors import DataError
from kdface.faces import FaceSet

Rows = NDArray[np.intp]


def rows_of_people(faces: FaceSet) -> list[Rows]:
    """The rows of each person with images; people sorted by name, rows by key, independent of the set's order.

    Excludes "?", which stands for unidentified people.
    """
    found: dict[int, list[int]] = {}
    for row, label in enumerate(faces.labels.tolist()):
        found.setdefault(label, []).append(row)
    named = sorted((faces.people[label], rows) for label, rows in found.items() if faces.people[label] != "?")
    return [np.array(sorted(rows, key=lambda row: faces.keys[row])) for _, rows in named]


def require_mates(people: list[Rows], faces: FaceSet, source: str, others: bool) -> None:
    """Raise `DataError` if a person has only one image, or (`others`) there is only one person."""
    paired = sum(len(rows) for rows in people if len(rows) > 1)
    if paired < len(faces):
        raise DataError(
            f"{source} compares each image with others of the same person, but {len(faces) - paired} of the "
            f"{len(faces)} images of {faces.name} have none.",
            expected="at least two images of each person, and all people named",
            fix="skip people with one image: dataset.min_images=2 (of image_folder); or use a source that "
            "needs no identities: serfiq, faceqan, froq, grafiqs, embedding_norm",
        )
    if others and len(people) < 2:
        raise DataError(f"{source} compares each image with other people, but {faces.name} has only one person.")


def mated_cosine(unit: NDArray[np.float32], people: list[Rows]) -> NDArray[np.float64]:
    """(N,) mean cosine of each image to its person's other images; NaN if there are none.

    With S the sum of the person's n unit embeddings, (z_i . S - z_i . z_i) / (n - 1).
    """
    found = np.full(len(unit), np.nan)
    for rows in people:
        if len(rows) > 1:
            own = unit[rows].astype(np.float64)
            found[rows] = (own @ own.sum(0) - np.square(own).sum(1)) / (len(rows) - 1)
    return found
