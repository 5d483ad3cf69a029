"""Some images of each person, and the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kdface.datasets import ImagesPerPerson, Subset, ToyFaces
from kdface.datasets.readable import Readable
from kdface.errors import UserError


def faces() -> ToyFaces:
    return ToyFaces(people=3, images_per_person=7, size=(32, 32), seed=0)


def test_so_many_of_each_person_are_taken_and_the_next_ones_held_out() -> None:
    taken, rest = ImagesPerPerson(faces(), 4), ImagesPerPerson(faces(), 4, held_out=2)
    assert np.bincount(taken.labels).tolist() == [4, 4, 4] and np.bincount(rest.labels).tolist() == [2, 2, 2]
    assert not set(taken.keys) & set(rest.keys) and set(taken.keys) | set(rest.keys) < set(faces().keys)
    assert set(ImagesPerPerson(faces(), 3).keys) < set(taken.keys)
    assert set(ImagesPerPerson(faces(), 4, seed=1).keys) != set(taken.keys)
    assert list(taken.people) == list(faces().people)
    for index in (0, 5, len(taken) - 1):
        sample = taken[index]
        assert (sample.key, sample.label) == (taken.keys[index], taken.labels[index])
        assert np.array_equal(sample.image, faces()[list(faces().keys).index(sample.key)].image)


def test_somebody_with_fewer_gives_all() -> None:
    assert len(ImagesPerPerson(faces(), 20)) == 21
    assert np.bincount(ImagesPerPerson(faces(), 5, held_out=20).labels).tolist() == [2, 2, 2]
    with pytest.raises(UserError, match="leaves nobody of toy_faces an image") as error:
        ImagesPerPerson(faces(), 7, held_out=2)
    assert error.value.fix == "number=5"
    assert len(ImagesPerPerson(faces(), 5, held_out=2)) == 6


class Watched(ToyFaces):
    """Records which of its images were looked at."""

    def check(self, index: int) -> None:
        self.looked_at = self.keys[index]

    def raw_bytes(self, index: int) -> bytes:
        return self.keys[index].encode()


@pytest.mark.parametrize(
    "some",
    [lambda of: ImagesPerPerson(of, 2), lambda of: Subset(of, 2), Readable],
    ids=["images_per_person", "subset", "readable"],
)
def test_a_part_of_a_set_looks_at_its_own_images(some: Callable[[Any], Any]) -> None:
    whole = Watched(people=3, images_per_person=4, size=(32, 32), seed=0)
    part = some(whole)
    for index, key in enumerate(part.keys):
        part.check(index)
        assert (whole.looked_at, part.raw_bytes(index).decode(), part[index].key) == (key, key, key)
