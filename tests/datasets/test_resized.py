"""Faces at another size, and what they bring along of the larger image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from kdface.augmentations import Periocular
from kdface.datasets import ImageFolder, Resized, Subset, ToyFaces
from kdface.datasets.checks import require_aligned
from kdface.errors import DataError
from kdface.faces import RawSample, Sample, template_points
from kdface.randomness import generator


def faces(**more: Any) -> ToyFaces:
    return ToyFaces(people=2, images_per_person=2, size=(112, 112), seed=0, **more)


def test_the_larger_image_is_handed_on_if_it_is_kept() -> None:
    large, small, kept = faces(), Resized(faces(), (56, 56)), Resized(faces(), (56, 56), keep_raw=True)
    sample = kept[1]
    assert type(small[1]) is Sample and isinstance(sample, RawSample)
    assert np.array_equal(sample.image, small[1].image) and np.array_equal(sample.raw, large[1].image)
    assert sample.landmarks is not None and (sample.label, sample.key) == (small[1].label, small[1].key)
    again = Resized(kept, (28, 28), keep_raw=True)[1]  # from the largest, however often they were resized
    assert isinstance(again, RawSample) and np.array_equal(again.raw, large[1].image)
    assert again.image.shape == (28, 28, 3)


def test_crops_of_another_size_beneath_are_told_by_their_own_key(tmp_path: Path) -> None:
    for person in "ab":
        (tmp_path / person).mkdir()
        cv2.imwrite(str(tmp_path / person / "1.png"), np.zeros((96, 96, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="2 of 2 sampled images are not aligned crops of 112x112") as error:
        require_aligned(Resized(Subset(ImageFolder(tmp_path), 2), (56, 56)))
    assert "dataset.dataset.dataset.size=[96,96]" in error.value.fix
    require_aligned(Resized(Subset(ImageFolder(tmp_path, size=(96, 96)), 2), (56, 56)))


def test_without_landmarks_the_larger_image_s_are_the_template_s() -> None:
    class Bare(ToyFaces):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return Sample(sample.image, sample.label, sample.key)

    sample = Resized(Bare(people=2, images_per_person=1, size=(112, 112), seed=0), (56, 56), keep_raw=True)[0]
    assert isinstance(sample, RawSample) and sample.landmarks is None
    assert np.array_equal(sample.raw_landmarks, template_points((112, 112)))


def test_a_strip_of_a_kept_image_is_that_of_the_image_before_it_was_resized() -> None:
    """Not one that is enlarged from what resizing has left of it."""
    strips = [
        Periocular(size=(32, 80))(given[3], generator(0))["periocular"].astype(int)
        for given in (faces(), Resized(faces(), (56, 56), keep_raw=True), Resized(faces(), (56, 56)))
    ]
    assert np.abs(strips[0] - strips[1]).max() <= 3
    assert np.abs(strips[0] - strips[2]).mean() > 4 * np.abs(strips[0] - strips[1]).mean()


@pytest.mark.parametrize("keep_raw", [True, False])
def test_a_subset_of_them_keeps_it_too(keep_raw: bool) -> None:
    from kdface.datasets import Subset

    part = Subset(Resized(faces(), (56, 56), keep_raw=keep_raw), 1)
    assert isinstance(part[0], RawSample) is keep_raw
