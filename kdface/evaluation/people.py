"""The people of a test set by name, and a few of them whose embeddings are kept to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdface.evaluation.scores import Embeddings, unit
from kdface.faces import FaceSet


def people_of(dataset: FaceSet) -> dict[str, str]:
    """Each key's person."""
    return {key: dataset.people[int(label)] for key, label in zip(dataset.keys, dataset.labels, strict=True)}


def sample_of_people(
    embeddings: Embeddings, people: Sequence[str], most_people: int = 20, most_images: int = 6
) -> tuple[NDArray[np.float16], NDArray[np.int16]]:
    """Embeddings of those people who have most images, small enough to keep with every run.

    Which they are depends on the test set alone, so the same images are kept of every network. People of one image
    are left out, and so is everything where there are not two people: then nothing is to be told apart.

    Args:
        embeddings: (images, D), each with a direction.
        people: (images,) names.
        most_people: those with most images, by name among equals.
        most_images: of each person, evenly spaced in the order given.

    Returns:
        (kept, D) unit embeddings, and (kept,) the number of each one's person, from 0 for the one with most images.
    """
    rows: dict[str, list[int]] = {}
    for row, person in enumerate(people):
        rows.setdefault(person, []).append(row)
    chosen = sorted((name for name in rows if len(rows[name]) > 1), key=lambda name: (-len(rows[name]), name))
    if len(chosen) < 2:
        return np.zeros((0, embeddings.shape[1]), np.float16), np.zeros(0, np.int16)
    kept: list[int] = []
    numbers: list[int] = []
    for number, name in enumerate(chosen[:most_people]):
        places = np.linspace(0, len(rows[name]) - 1, min(most_images, len(rows[name]))).round().astype(np.int64)
        kept += [rows[name][place] for place in places]
        numbers += [number] * len(places)
    return unit(embeddings[kept]).astype(np.float16), np.array(numbers, dtype=np.int16)
