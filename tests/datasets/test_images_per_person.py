"""Some images of each person, and the others."""

from __future__ import annotations

import numpy as np
import pytest

from kdface.datasets import ImagesPerPerson, ToyFaces
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
    assert error.value.mend == "number=5"
    assert len(ImagesPerPerson(faces(), 5, held_out=2)) == 6
