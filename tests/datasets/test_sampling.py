"""P x K batches: their make-up, people with few images, and that they are pure functions of (seed, epoch)."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.datasets.loading import BatchOrder
from kdface.datasets.sampling import people_by_images
from kdface.errors import UserError

EVEN = np.arange(60, dtype=np.int64) % 6  # six people with ten images each, interleaved


def _uneven() -> NDArray[np.int64]:
    """Eight people with 1, 1, 2, 3, 5, 8, 13 and 21 images."""
    labels = np.repeat(np.arange(8), [1, 1, 2, 3, 5, 8, 13, 21])
    return np.random.default_rng(0).permutation(labels).astype(np.int64)


def test_each_batch_holds_p_people_with_k_different_images_lying_together() -> None:
    batches = people_by_images(EVEN, 3, 4, seed=0)(0)
    assert batches.shape == (60 // 12, 12)
    assert batches.dtype == np.int64
    for batch in batches:
        assert len(set(batch.tolist())) == 12
        people = EVEN[batch].reshape(3, 4)
        assert (people == people[:, :1]).all()
        assert len(set(people[:, 0].tolist())) == 3


def test_people_and_their_images_come_up_evenly() -> None:
    """Five batches of three of six people: each person 2 or 3 times, so 8 to 12 of ten images, each at most twice."""
    for epoch in range(3):
        batches = people_by_images(EVEN, 3, 4, seed=1)(epoch)
        visits = np.bincount(EVEN[batches[:, ::4]].ravel(), minlength=6)
        assert set(visits.tolist()) <= {2, 3}
        shown = np.bincount(batches.ravel(), minlength=60)
        assert shown.max() <= 2
        for person in range(6):
            assert np.count_nonzero(shown[person == EVEN]) == min(10, 4 * visits[person])


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    order = people_by_images(EVEN, 3, 4, seed=0)
    later = order(5)
    order(2)
    np.random.seed(3)
    assert np.array_equal(order(5), later)
    assert np.array_equal(people_by_images(EVEN, 3, 4, seed=0)(5), later)
    assert not np.array_equal(order(4), later)
    assert not np.array_equal(people_by_images(EVEN, 3, 4, seed=1)(5), later)


@pytest.mark.parametrize("images", [2, 4, 10])
def test_people_with_few_images_give_all_of_them_once_and_others_fill_the_slots(images: int) -> None:
    labels = _uneven()
    owned = np.bincount(labels)
    for epoch in range(4):
        for batch in people_by_images(labels, 2, images, seed=0)(epoch):
            assert len(batch) == 2 * images
            assert len(set(batch.tolist())) == len(batch)
            people, counts = np.unique(labels[batch], return_counts=True)
            cut_short = [
                (person, count)
                for person, count in zip(people, counts, strict=True)
                if count != min(images, owned[person])
            ]
            assert len(cut_short) <= 1
            assert all(person == labels[batch[-1]] and count < images for person, count in cut_short)


def test_as_many_images_as_there_are_fill_a_batch_without_duplicates() -> None:
    labels = np.repeat(np.arange(4), [1, 2, 5, 2]).astype(np.int64)
    (batch,) = people_by_images(labels, 2, 4, seed=0)(0)
    assert len(set(batch.tolist())) == 8  # 1 + 2 + 4 + 2 = 9 are on offer


@pytest.mark.parametrize(("people", "images", "parts"), [(3, 2, 1), (4, 2, 2), (6, 2, 3), (2, 6, 1)])
def test_each_part_of_each_batch_of_long_tailed_data_has_a_pair_and_a_negative(
    people: int, images: int, parts: int
) -> None:
    """Twelve people with one image and four with six."""
    labels = np.repeat(np.arange(16), [1] * 12 + [6] * 4).astype(np.int64)
    visits = np.zeros(16, dtype=np.int64)
    for epoch in range(40):
        for batch in people_by_images(labels, people, images, seed=0, parts=parts)(epoch):
            assert len(set(batch.tolist())) == len(batch)
            for part in labels[batch].reshape(parts, -1):
                counts = np.unique(part, return_counts=True)[1]
                assert len(counts) > 1 and counts.max() > 1
            visits[np.unique(labels[batch])] += 1
    assert (visits > 0).all()


@pytest.mark.parametrize(
    ("counts", "fix"),
    [
        ([3, 3, 1], "method.people_per_batch=2 method.images_per_person=3 "),
        ([2, 1, 1], "method.people_per_batch=2 method.images_per_person=2 "),
        ([9, 1, 1, 1], "method.people_per_batch=2 method.images_per_person=3 "),
        ([2, 1], "more images"),
    ],
)
def test_a_fix_for_too_few_images_is_one(counts: list[int], fix: str) -> None:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    with pytest.raises(UserError) as told:
        people_by_images(labels, 45, 40, seed=0)
    assert told.value.fix.startswith(fix)
    if "=" in fix:
        people, images = (int(word.partition("=")[2]) for word in told.value.fix.split()[:2])
        assert len(people_by_images(labels, people, images, seed=0)(0)) >= 1


def test_labels_need_not_be_consecutive_numbers() -> None:
    labels = np.array([7, 7, 7, 90, 90, 90], dtype=np.int64)
    (batch,) = people_by_images(labels, 2, 3, seed=0)(0)
    assert sorted(batch.tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0, 1, 2, 3], "4 images of 4 people make no pairs"),
        ([0, 0, 0, 0], "4 images of 1 people make no pairs"),
        ([0, 0, 0, 0, 0, 0, 1], "needs 6 images; 2 people with at most 3 images each offer 4"),
    ],
)
def test_data_that_cannot_fill_a_batch_is_told(labels: list[int], told: str) -> None:
    with pytest.raises(UserError, match=told):
        people_by_images(np.array(labels, dtype=np.int64), 2, 3, seed=0)


@pytest.mark.parametrize(("accumulate", "world"), [(1, 2), (3, 1), (3, 2)])
def test_ranks_and_parts_share_a_batch_and_each_part_still_has_pairs(accumulate: int, world: int) -> None:
    order = people_by_images(EVEN, 6, 4, seed=2)
    rows = [BatchOrder(order, accumulate, rank, world) for rank in range(world)]
    whole = [set(batch.tolist()) for batch in order(0)]
    seen: list[set[int]] = [set() for _ in whole]
    for parts in zip(*rows, strict=True):
        for number, part in enumerate(parts):
            people, counts = np.unique(EVEN[[index for _, index in part]], return_counts=True)
            assert len(people) == 6 // accumulate
            assert set(counts.tolist()) == {4 // world}, number
    for own in rows:
        for number, part in enumerate(own):
            seen[number // accumulate] |= {index for _, index in part}
    assert seen == whole
