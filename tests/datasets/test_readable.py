"""A set without its broken images keeps the order, people and bytes of the rest."""

from __future__ import annotations

import pytest

from kdface.datasets import ToyFaces
from kdface.datasets.checks import bytes_of
from kdface.datasets.readable import Readable
from kdface.errors import DataError
from kdface.faces import Sample


class Damaged(ToyFaces):
    """Toy faces some of which cannot be read."""

    broken: tuple[int, ...] = ()

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise DataError(f"image {index} is cut short.")
        return super().__getitem__(index)


def _faces(*broken: int) -> Damaged:
    faces = Damaged(people=2, images_per_person=3, size=(16, 16))
    faces.broken = broken
    return faces


def test_broken_images_are_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    faces = _faces(1, 4)
    found = Readable(faces)
    kept = [0, 2, 3, 5]
    assert len(found) == 4 and list(found.keys) == [faces.keys[row] for row in kept]
    assert found.labels.tolist() == [int(faces.labels[row]) for row in kept] and found.people == faces.people
    assert found.preprocessing == faces.preprocessing
    for place, row in enumerate(kept):
        assert (found[place].image == faces[row].image).all() and found[place].key == faces.keys[row]
        assert bytes_of(found, place) == bytes_of(faces, row)
    assert "2 of 6 images are broken and left out, the first one: image 1 is cut short." in caplog.text


def test_a_whole_set_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert len(Readable(_faces())) == 6 and not caplog.text


def test_nothing_that_can_be_read() -> None:
    with pytest.raises(DataError, match="image 0 is cut short"):
        Readable(_faces(*range(6)))
