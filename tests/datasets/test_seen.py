"""Test views and resized sets: the same images at every reading, and the sizes that they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.datasets import Resized, Seen
from kdface.datasets.checks import fingerprint
from kdface.errors import UserError
from kdface.faces import Image, Preprocessing, Sample


class Ramp:
    """Images whose red is 2 x and green 2 y, so that a pixel tells where it came from; 16 high, 24 wide."""

    name = "ramp"
    preprocessing = Preprocessing(size=(16, 24))
    people: Sequence[str] = ("one", "two")
    labels: NDArray[np.int64] = np.array([0, 1, 1])
    keys: Sequence[str] = ("a", "b", "c")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        y, x = np.mgrid[0:16, 0:24]
        image = np.stack([2 * x, 2 * y, np.full_like(x, index)], axis=2).astype(np.uint8)
        points = np.array([[6, 4], [17, 4], [12, 8], [8, 12], [16, 12]], dtype=np.float32)
        return Sample(image, int(self.labels[index]), self.keys[index], points)


class Noisy:
    """A view of noise, half as high and wide."""

    views: ClassVar[tuple[str, ...]] = ("plain", "noise")

    def preprocessing(self, view: str, source: Preprocessing) -> Preprocessing:
        return Preprocessing(size=(8, 12)) if view == "noise" else source

    def __call__(self, sample: Sample, rng: np.random.Generator) -> dict[str, Image]:
        return {"plain": sample.image, "noise": rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)}


def test_a_test_view_is_drawn_once_for_each_key_and_seed() -> None:
    seen, again, other = (
        Seen(Ramp(), Noisy(), "noise"),
        Seen(Ramp(), Noisy(), "noise"),
        Seen(Ramp(), Noisy(), "noise", 1),
    )
    assert np.array_equal(seen[2].image, seen[2].image)
    assert np.array_equal(seen[2].image, again[2].image)
    assert not np.array_equal(seen[2].image, seen[1].image)
    assert not np.array_equal(seen[2].image, other[2].image)
    assert seen.preprocessing.size == (8, 12) and seen[0].image.shape == (8, 12, 3)
    assert (seen.name, list(seen.keys), len(seen), seen[2].label) == ("ramp:noise", ["a", "b", "c"], 3, 1)
    assert Seen(Ramp(), Noisy(), "plain").preprocessing == Ramp.preprocessing


def test_a_view_that_is_not_made() -> None:
    with pytest.raises(UserError, match="nois'"):
        Seen(Ramp(), Noisy(), "nois")


def test_the_fingerprint_is_that_of_the_images_beneath() -> None:
    assert fingerprint(Seen(Ramp(), Noisy(), "noise")) == fingerprint(Ramp())


def test_resizing_moves_landmarks_with_the_pixels() -> None:
    """At half size a landmark's pixel holds the mean colour of the four it was made of."""
    small = Resized(Ramp(), (8, 12))
    sample = small[0]
    assert sample.image.shape == (8, 12, 3) and small.preprocessing.size == (8, 12)
    assert sample.landmarks is not None
    expected = [[(x + 0.5) / 2 - 0.5, (y + 0.5) / 2 - 0.5] for x, y in [[6, 4], [17, 4], [12, 8], [8, 12], [16, 12]]]
    assert sample.landmarks == pytest.approx(np.array(expected))
    for x in range(12):
        assert sample.image[3, x, 0] == (2 * 2 * x + 2 * (2 * x + 1)) / 2  # the mean of columns 2x and 2x + 1


def test_resizing_does_not_stretch() -> None:
    with pytest.raises(UserError, match="16 high and 24 wide"):
        Resized(Ramp(), (8, 8))
