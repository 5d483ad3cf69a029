"""The people of a test set by name, their images, and a sample whose embeddings are kept for plots."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.scores import Embeddings, unit
from kdface.faces import FaceSet

UNKNOWN = "?"  # the name in sets without identities


def people_of(dataset: FaceSet) -> dict[str, str]:
    """Each key's person."""
    return {key: dataset.people[int(label)] for key, label in zip(dataset.keys, dataset.labels, strict=True)}


def files_of(dataset: FaceSet, group: str | None = None) -> dict[str, list[list[str]]]:
    """Each person's keys, sorted, in groups of near copies such as the frames of one video; people by name.

    Args:
        dataset: the images.
        group: a regular expression with one group, searched in each key: images of a person with the same match
            belong together, e.g. `_(\\d+)_\\d+\\.jpg$` for `name_VIDEO_FRAME.jpg`. None: no grouping.

    Raises:
        UserError: the expression is invalid, or a key does not match it.
    """
    pattern = _pattern(group)
    found: dict[str, dict[str, list[str]]] = {}
    for key, person in sorted(people_of(dataset).items()):
        name = key
        if pattern is not None:
            match = pattern.search(key)
            if match is None or match[1] is None:
                raise UserError(
                    f"{dataset.name}: the key {key} does not match group={group!r}.",
                    expected="a regular expression whose group is in every key",
                )
            name = match[1]
        found.setdefault(person, {}).setdefault(name, []).append(key)
    return {person: list(groups.values()) for person, groups in sorted(found.items())}


def _pattern(group: str | None) -> re.Pattern[str] | None:
    if group is None:
        return None
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise UserError(f"group={group!r} is not a regular expression: {error}.") from error
    if pattern.groups != 1:
        raise UserError(
            f"group={group!r} has {pattern.groups} groups in parentheses.",
            expected="one, around the part of the key shared by images of one group",
        )
    return pattern


def sample_of_people(
    embeddings: Embeddings, people: Sequence[str], most_people: int = 20, most_images: int = 6
) -> tuple[NDArray[np.float16], NDArray[np.int16]]:
    """Embeddings of the people with the most images, small enough to keep with every run.

    The selection depends only on the test set, so the same images are kept for every network. People with one image
    are excluded; the sample is empty if fewer than two people remain.

    Args:
        embeddings: (images, D), each with a direction.
        people: (images,) names.
        most_people: maximum number of people, by number of images, then by name.
        most_images: maximum per person, evenly spaced in the given order.

    Returns:
        (kept, D) unit embeddings, and (kept,) person numbers, from 0 for the person with the most images.
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
