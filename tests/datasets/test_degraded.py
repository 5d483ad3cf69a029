"""Compressed, coarse and smaller sets: what is done to the pixels, by hand, and which images are left."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from kdface.datasets import JPEG, PeopleWith, Pixels, Subset
from kdface.datasets.checks import fingerprint
from kdface.errors import UserError
from kdface.faces import FaceSet, Image
from tests.datasets.test_seen import Ramp


def _read(image: Image, quality: int) -> Image:
    """Through an encoder of another kind of call: channels reversed by indexing, bytes decoded as they lie."""
    written = cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    read = cv2.imdecode(np.frombuffer(written.tobytes(), np.uint8), cv2.IMREAD_COLOR)
    assert read is not None
    return np.asarray(read[:, :, ::-1])


@pytest.mark.parametrize("quality", [10, 90])
def test_jpeg(quality: int) -> None:
    faces, bare = JPEG(Ramp(), quality), Ramp()
    for row in range(3):
        np.testing.assert_array_equal(faces[row].image, _read(bare[row].image, quality))
        np.testing.assert_array_equal(faces[row].landmarks, bare[row].landmarks)
        assert (faces[row].key, faces[row].label) == (bare.keys[row], bare.labels[row])
    # A ramp of red and green with constant blue: a swap of channels would be off by tens.
    assert np.abs(JPEG(bare, 95)[2].image.astype(int) - bare[2].image).mean() < 6
    assert faces.name == f"ramp:jpeg{quality}"


def test_a_lower_quality_loses_more() -> None:
    lost = [np.square(JPEG(Ramp(), q)[0].image.astype(int) - Ramp()[0].image).mean() for q in (5, 30, 95)]
    assert lost[0] > lost[1] > lost[2] > 0


def test_fewer_pixels_by_hand() -> None:
    """16x24 to 4x6 pixels: means of 4x4, then bilinear between their centres, constant outside."""
    faces, bare = Pixels(Ramp(), 24), Ramp()
    means = bare[1].image.reshape(4, 4, 6, 4, 3).mean((1, 3))
    rows, columns = ((np.arange(n) + 0.5) / 4 - 0.5 for n in (16, 24))
    expected = np.empty((16, 24, 3))
    for channel in range(3):
        across = np.stack([np.interp(columns, range(6), line) for line in means[:, :, channel]])
        expected[:, :, channel] = np.stack([np.interp(rows, range(4), line) for line in across.T], axis=1)
    np.testing.assert_allclose(faces[1].image, expected, atol=1.0)
    assert np.abs(faces[1].image.astype(int) - bare[1].image).max() > 2
    assert faces.name == "ramp:24px"


def test_as_many_pixels_as_there_are_change_nothing_and_more_are_refused() -> None:
    np.testing.assert_array_equal(Pixels(Ramp(), 16 * 24)[2].image, Ramp()[2].image)
    with pytest.raises(UserError, match="pixels = 385"):
        Pixels(Ramp(), 385)


@pytest.mark.parametrize("made", [lambda faces: JPEG(faces, 30), lambda faces: Pixels(faces, 24)])
def test_people_keys_and_bytes_are_those_beneath(made: Callable[[FaceSet], FaceSet]) -> None:
    faces, bare = made(Ramp()), Ramp()
    assert (list(faces.people), list(faces.keys), len(faces)) == (list(bare.people), list(bare.keys), 3)
    assert faces.preprocessing == bare.preprocessing
    assert fingerprint(faces) == fingerprint(bare)
    np.testing.assert_array_equal(faces[0].image, faces[0].image)


class Crowd(Ramp):
    """Ten people with one to three images each, in no order."""

    people = tuple(f"person {i}" for i in range(10))
    labels = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 0], dtype=np.int64)
    keys = tuple("abcdefghijklmno")

    def __len__(self) -> int:
        return len(self.keys)


def test_a_subset_holds_its_people_with_all_their_images() -> None:
    crowd = Crowd()
    owners = {key: crowd.people[label] for key, label in zip(crowd.keys, crowd.labels, strict=True)}
    before: set[str] = set()
    for number in (1, 4, 9):
        faces = Subset(crowd, number, seed=3)
        assert len(faces.people) == len(set(faces.people)) == number
        assert before < set(faces.people)  # the smaller subset is part of the larger
        before = set(faces.people)
        assert set(faces.keys) == {key for key, owner in owners.items() if owner in before}
        for row in range(len(faces)):
            sample = faces[row]
            assert sample.key == faces.keys[row]
            assert sample.label == faces.labels[row]
            assert faces.people[sample.label] == owners[sample.key]
    assert set(Subset(crowd, 4, seed=3).people) != set(Subset(crowd, 4, seed=4).people)
    assert len(Subset(crowd, 10)) == 15
    assert fingerprint(Subset(crowd, 4)) != fingerprint(crowd)


def test_more_people_than_there_are() -> None:
    with pytest.raises(UserError, match="number = 11, but ramp has 10 people"):
        Subset(Crowd(), 11)


def test_people_with_few_images_are_left_out() -> None:
    crowd = Crowd()
    numbers = np.bincount(crowd.labels, minlength=len(crowd.people)).tolist()
    for least in (1, 2):
        faces = PeopleWith(crowd, least)
        left = [person for person, number in zip(crowd.people, numbers, strict=True) if number >= least]
        assert list(faces.people) == left
        owners = {faces.people[label] for label in faces.labels}
        assert owners == set(left) and len(faces) == sum(number for number in numbers if number >= least)
    with pytest.raises(UserError, match="leaves 0 people of ramp") as error:
        PeopleWith(crowd, max(numbers) + 1)
    assert error.value.fix == f"images={sorted(numbers)[-2]}"
