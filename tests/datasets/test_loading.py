"""Order, position and draws of the training set are pure functions of (seed, epoch, key)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kdface.augmentations import Standard
from kdface.datasets.loading import BatchOrder, ResumableLoader, TrainingSet, shuffled
from kdface.errors import DataError, UserError
from kdface.faces import Image, Preprocessing, Sample


class Noise:
    """Twenty images of noise of four people; `broken` indices cannot be read."""

    name = "noise"
    preprocessing = Preprocessing(size=(8, 8))
    people: Sequence[str] = ["a", "b", "c", "d"]
    labels: NDArray[np.int64] = np.arange(20, dtype=np.int64) % 4
    keys: Sequence[str] = [f"{index:02d}" for index in range(20)]

    def __init__(self, broken: tuple[int, ...] = ()) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise DataError(f"{self.keys[index]}: cut off")
        image = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        return Sample(image, int(self.labels[index]), self.keys[index])


def test_every_image_once_an_epoch_in_another_order_each_epoch() -> None:
    order = shuffled(20, 5, seed=0)
    for epoch in range(3):
        assert sorted(order(epoch).ravel().tolist()) == list(range(20))
    assert not np.array_equal(order(0), order(1))
    assert np.array_equal(order(1), shuffled(20, 5, seed=0)(1))
    assert not np.array_equal(order(0), shuffled(20, 5, seed=1)(0))


def test_an_incomplete_batch_is_left_out_and_none_at_all_is_told() -> None:
    assert shuffled(20, 6, seed=0)(0).shape == (3, 6)
    with pytest.raises(UserError, match="batch_size = 21 is more than the 20"):
        shuffled(20, 21, seed=0)


@pytest.mark.parametrize(("accumulate", "world"), [(1, 2), (2, 1), (2, 2)])
def test_ranks_and_parts_together_see_the_same_batch(accumulate: int, world: int) -> None:
    order = shuffled(20, 8, seed=3)
    whole = [{index for _, index in batch} for batch in BatchOrder(order)]
    seen: list[set[int]] = [set() for _ in whole]
    for rank in range(world):
        for number, batch in enumerate(BatchOrder(order, accumulate, rank, world)):
            assert len(batch) == 8 // (accumulate * world)
            seen[number // accumulate] |= {index for _, index in batch}
    assert seen == whole


def test_a_batch_that_cannot_be_divided_is_told() -> None:
    with pytest.raises(UserError, match="cannot be divided into 1 parts over 3 ranks"):
        BatchOrder(shuffled(20, 8, seed=0), 1, 0, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loader_goes_on_at_the_very_batch(workers: int) -> None:
    def loader() -> ResumableLoader:
        faces = TrainingSet(Noise(), Standard(flip=0.5), seed=1)
        return ResumableLoader(faces, BatchOrder(shuffled(20, 5, seed=1)), workers)

    straight = loader()
    expected = [batch for _ in range(2) for batch in straight]
    first = loader()
    for number, _ in enumerate(first):
        if number == 2:
            break
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    rest = [*second, *second]
    assert [batch.keys for batch in rest] == [batch.keys for batch in expected[3:]]
    for one, two in zip(rest, expected[3:], strict=True):
        assert torch.equal(one.views["image"], two.views["image"])


def test_draws_differ_between_epochs_and_depend_on_nothing_else() -> None:
    faces = TrainingSet(Noise(), Standard(flip=0.0, photometric=1.0), seed=1)
    same = TrainingSet(Noise(), Standard(flip=0.0, photometric=1.0), seed=1)
    order = [(0, 3), (1, 3), (0, 5)]
    first = {item: faces[item][0]["image"] for item in order}  # type: ignore[index]
    second = {item: same[item][0]["image"] for item in reversed(order)}  # type: ignore[index]
    for item in order:
        assert np.array_equal(first[item], second[item])
    assert not np.array_equal(first[(0, 3)], first[(1, 3)])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_stops_or_is_counted_and_listed(workers: int) -> None:
    order = BatchOrder(shuffled(20, 20, seed=0))
    with pytest.raises(DataError, match=r"^07: cut off$"):
        list(ResumableLoader(TrainingSet(Noise(broken=(7,)), Standard(), 0), order, workers))
    faces = TrainingSet(Noise(broken=(7, 9)), Standard(), 0, on_error="skip")
    (batch,) = ResumableLoader(faces, order, workers)
    assert sorted(batch.skipped) == ["07: 07: cut off", "09: 09: cut off"]
    assert len(batch.keys) == 18 and batch.label.shape == (18,)
    with pytest.raises(DataError, match="every image of a batch is broken"):
        list(
            ResumableLoader(TrainingSet(Noise(broken=tuple(range(20))), Standard(), 0, on_error="skip"), order, workers)
        )


class Picky(Standard):
    """An augmentation that cannot work on image 07: landmarks that are no face's."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> dict[str, Image]:
        if sample.key == "07":
            raise DataError("07: landmarks coincide.")
        return super().__call__(sample, rng)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_the_augmentation_refuses_is_skipped_or_told_as_it_is(workers: int) -> None:
    order = BatchOrder(shuffled(20, 20, 0))
    (batch,) = ResumableLoader(TrainingSet(Noise(), Picky(), 0, on_error="skip"), order, workers)
    assert batch.skipped == ["07: 07: landmarks coincide."] and len(batch.keys) == 19
    with pytest.raises(DataError, match=r"^07: landmarks coincide"):
        next(iter(ResumableLoader(TrainingSet(Noise(), Picky(), 0), order, workers)))


class Mistaken(Standard):
    """An augmentation that was configured for other samples."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> dict[str, Image]:
        raise UserError("no such view.", fix="another one")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_of_the_configuration_is_no_broken_image(workers: int) -> None:
    faces = TrainingSet(Noise(), Mistaken(), 0, on_error="skip")
    with pytest.raises(UserError, match=r"^no such view\.\n  fix: +another one$"):
        next(iter(ResumableLoader(faces, BatchOrder(shuffled(20, 20, 0)), workers)))
