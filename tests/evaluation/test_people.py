"""The few people whose embeddings are kept: who, how many images, and in what form."""

from __future__ import annotations

import numpy as np
import pytest

from kdface.errors import UserError
from kdface.evaluation import fold_identification, random_verification
from kdface.evaluation.identification import cmc, mate_ranks
from kdface.evaluation.people import files_of, sample_of_people
from tests.evaluation.faces import Given, Listed, noise

PEOPLE = ["bo"] * 5 + ["ada"] * 3 + ["cy"] * 3 + ["di"]


def test_those_with_most_images_evenly_spaced_as_unit_vectors() -> None:
    rows = np.arange(1.0, 13.0)[:, None] * np.array([3.0, 4.0])  # all in one direction, (0.6, 0.8)
    rows[:, 0] = 0  # ... and now along the second axis, with lengths 4, 8, ...
    kept, numbers = sample_of_people(rows, PEOPLE, most_people=2, most_images=3)
    assert numbers.tolist() == [0, 0, 0, 1, 1, 1]  # bo, then ada before cy by name
    assert kept.dtype == np.float16 and kept.tolist() == [[0.0, 1.0]] * 6
    marked, _ = sample_of_people(np.eye(12), PEOPLE, most_people=2, most_images=3)
    assert marked.argmax(axis=1).tolist() == [0, 2, 4, 5, 6, 7]


def test_one_image_or_one_person_tells_nothing_apart() -> None:
    kept, numbers = sample_of_people(np.eye(12), PEOPLE)
    assert set(numbers.tolist()) == {0, 1, 2}  # not di, who has one image
    assert len(kept) == len(numbers) == 11
    for people in (["?"] * 4, ["a", "a", "a", "b"], ["a", "b", "c", "d"]):
        kept, numbers = sample_of_people(np.eye(4), people)
        assert kept.shape == (0, 4) and numbers.shape == (0,)


def _faces() -> Listed:
    return Listed([(person, f"{person}/{k}") for person in ("ada", "bo", "cy") for k in range(4)])


def test_verification_keeps_them_with_its_scores() -> None:
    faces = _faces()
    rows = noise(faces, 0, 0, 0.1)
    arrays = random_verification(faces, folds=2, pairs_per_fold=6).evaluate(Given((faces, rows))).arrays()
    assert set(arrays) == {"scores", "same", "sample", "sample_people"}
    known = [row / np.linalg.norm(row) for row in rows.values()]
    for kept in arrays["sample"].astype(np.float64):
        assert min(np.linalg.norm(kept - row) for row in known) < 1e-3  # half precision


def test_the_same_people_of_both_sides() -> None:
    faces, masked = _faces(), _faces()
    given = Given((faces, noise(faces, 0, 0, 0.1)), (masked, noise(masked, 0, 1, 0.1)))
    plain = random_verification(faces, folds=2, pairs_per_fold=6, probes=masked).evaluate(given)
    assert len(set(plain.sample_people.tolist())) == 3  # three people, not three on each side


def test_identification_keeps_its_whole_curve() -> None:
    faces = _faces()
    rows = noise(faces, 0, 0, 2.0)
    protocol = fold_identification(faces, folds=2)
    arrays = protocol.evaluate(Given((faces, rows))).arrays()
    sides = [
        (np.array([rows[key] for key in fold.keys], dtype=np.float32), fold.people)
        for fold in protocol.galleries.values()
    ]
    one, two = cmc(mate_ranks(*sides[0], *sides[1])), cmc(mate_ranks(*sides[1], *sides[0]))
    assert arrays["cmc"] == pytest.approx((one + two) / 2)
    assert len(arrays["cmc"]) == 20 and set(arrays) == {"cmc", "sample", "sample_people"}


def test_images_by_person_in_groups() -> None:
    keys = ["bo/b_11.jpg", "ada/a_2.jpg", "bo/b_10.jpg", "bo/b_00.jpg", "ada/a_1.jpg"]
    faces = Listed([(key.split("/")[0], key) for key in keys], ["bo", "ada"])
    alone = {"ada": [["ada/a_1.jpg"], ["ada/a_2.jpg"]], "bo": [["bo/b_00.jpg"], ["bo/b_10.jpg"], ["bo/b_11.jpg"]]}
    assert files_of(faces) == alone and list(files_of(faces)) == ["ada", "bo"]
    assert files_of(faces, r"_(\d)") == {**alone, "bo": [["bo/b_00.jpg"], ["bo/b_10.jpg", "bo/b_11.jpg"]]}
    # What two people's keys have in common groups nothing.
    assert files_of(faces, r"(_)") == {
        person: [[key for group in groups for key in group]] for person, groups in alone.items()
    }


@pytest.mark.parametrize(
    ("group", "told"),
    [
        ("(", "is not a regular expression"),
        (r"_\d", "has 0 groups"),
        (r"(_)(\d)", "has 2 groups"),
        (r"_(\d)\d", r"the key .*/0 does not match"),
        (r"(x)?/", r"the key .*/0 does not match"),
    ],
)
def test_patterns_that_name_no_group_are_told(group: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        files_of(_faces(), group)
