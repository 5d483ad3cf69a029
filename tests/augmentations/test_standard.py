"""The standard augmentation and the shared flip."""

from __future__ import annotations

import numpy as np
import pytest

from kdface.augmentations import Standard
from kdface.faces import ARCFACE_112, Sample
from kdface.randomness import generator


def _sample() -> Sample:
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    return Sample(image, 0, "key", ARCFACE_112.copy())


def test_the_flip_mirrors_and_leaves_the_sample_alone() -> None:
    sample = _sample()
    before = sample.image.copy()
    assert np.array_equal(Standard(flip=1.0)(sample, generator(0))["image"], before[:, ::-1])
    assert np.array_equal(sample.image, before)


def test_the_flip_has_its_probability() -> None:
    sample, standard = _sample(), Standard(flip=0.25)
    flipped = sum(not np.array_equal(standard(sample, generator(n))["image"], sample.image) for n in range(2000))
    assert 0.25 - 4 * (0.25 * 0.75 / 2000) ** 0.5 < flipped / 2000 < 0.25 + 4 * (0.25 * 0.75 / 2000) ** 0.5


def test_without_any_change_the_image_is_the_sample() -> None:
    sample = _sample()
    assert np.array_equal(Standard(flip=0.0)(sample, generator(0))["image"], sample.image)


@pytest.mark.parametrize("change", ["geometric", "photometric", "grayscale", "blur"])
def test_each_change_acts_repeats_and_varies(change: str) -> None:
    sample = _sample()
    before = sample.image.copy()
    augment = Standard(flip=0.0, **{change: 1.0})
    one = augment(sample, generator(0, "a"))["image"]
    again = augment(sample, generator(0, "a"))["image"]
    other = augment(sample, generator(0, "b"))["image"]
    assert one.shape == (112, 112, 3) and one.dtype == np.uint8
    assert np.array_equal(one, again)
    assert not np.array_equal(one, before)
    assert np.array_equal(sample.image, before)
    if change != "grayscale":
        assert not np.array_equal(one, other)
    else:
        assert (one[..., 0] == one[..., 1]).all() and (one[..., 1] == one[..., 2]).all()


def test_the_geometric_change_is_a_similarity() -> None:
    """A disc stays a disc, whatever its size."""
    y, x = np.mgrid[:112, :112]
    disc = np.where((x - 55.5) ** 2 + (y - 55.5) ** 2 < 30**2, 255, 0).astype(np.uint8)
    sample = Sample(np.repeat(disc[..., None], 3, axis=2), 0, "disc")
    augment = Standard(flip=0.0, geometric=1.0, rotation=20.0, shift=5.0, scale=0.3)
    sizes = []
    for number in range(30):
        image = augment(sample, generator(number))["image"][..., 0] > 127
        height, width = np.ptp(np.flatnonzero(image.any(1))), np.ptp(np.flatnonzero(image.any(0)))
        assert abs(int(height) - int(width)) <= 2
        sizes.append(int(height))
    assert min(sizes) < 52 and max(sizes) > 66


def test_the_changes_are_drawn_independently() -> None:
    """Of two changes with probability p and q, both happen to a share p q of the images."""
    image = np.full((112, 112, 3), (120, 60, 30), dtype=np.uint8)
    image[40:60, 40:60] = 0
    middle = slice(24, 88)  # a turn brings black from the outside into the corners
    before = image[middle, middle, 0] > 60
    augment = Standard(flip=0.0, geometric=0.5, photometric=0.4)
    turned, recoloured = np.zeros((2, 600), dtype=bool)
    for number in range(600):
        after = augment(Sample(image, 0, "key"), generator(number))["image"][middle, middle].astype(int)
        recoloured[number] = (after[-1, -1] != (120, 60, 30)).any()
        bright = after.sum(2)
        turned[number] = not np.array_equal(bright > (bright.min() + bright.max()) / 2, before)
    for share, expected in ((turned, 0.5), (recoloured, 0.4), (turned & recoloured, 0.2)):
        assert abs(share.mean() - expected) < 4 * (expected * (1 - expected) / 600) ** 0.5


def test_views_of_different_sizes_are_changed_alike() -> None:
    """Both of one colour before and after, whatever was drawn; contrast is taken about a mean that sees the border."""
    views = {
        name: np.full((*size, 3), (120, 60, 30), np.uint8) for name, size in {"a": (64, 64), "b": (32, 80)}.items()
    }
    augment = Standard(flip=0.5, geometric=0.5, photometric=1.0, grayscale=0.5, blur=0.5)
    colours = set()
    for number in range(40):
        after = augment.together(views, generator(number))
        one, other = (image[image.shape[0] // 2, image.shape[1] // 2].astype(int) for image in after.values())
        assert abs(one - other).max() <= 4
        colours.add(tuple(one))
    assert len(colours) > 30
