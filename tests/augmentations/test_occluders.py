"""Sunglasses, scarves and patches: what they cover, what they leave, and the views they share with the masks."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from kdface.augmentations.masks.occluder import Occluder
from kdface.augmentations.occluders import RandomPatch, Scarf, Sunglasses
from kdface.augmentations.standard import Standard
from kdface.augmentations.synthetic_mask import SyntheticMask
from kdface.errors import DataError, UserError
from kdface.faces import ARCFACE_112, Image, Preprocessing, Sample, template_points
from kdface.randomness import generator

ALL: list[type[Occluder]] = [Sunglasses, Scarf, RandomPatch]
SEEDS = range(12)


def _sample(size: int = 112) -> Sample:
    return Sample(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8), 0, "key")


def _changed(before: Image, after: Image) -> NDArray[np.bool_]:
    return np.asarray(np.abs(before.astype(int) - after).max(axis=2) > 10)


@pytest.mark.parametrize("kind", ALL)
def test_views_determinism_and_the_untouched_sample(kind: type[Occluder]) -> None:
    sample = _sample()
    before = sample.image.copy()
    augment = kind(probability=1.0, standard=None)
    one, again, other = (augment(sample, generator(0, key)) for key in ("a", "a", "b"))
    assert tuple(one) == kind.views == ("clean", "masked")
    assert np.array_equal(sample.image, before) and np.array_equal(one["clean"], before)
    assert not np.shares_memory(one["clean"], one["masked"])
    assert np.array_equal(one["masked"], again["masked"])
    assert not np.array_equal(one["masked"], other["masked"])
    assert _changed(before, one["masked"]).any()
    source = Preprocessing(size=(112, 112))
    assert all(augment.preprocessing(view, source) == source for view in kind.views)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_the_occluder_has_its_probability(kind: type[Occluder], probability: float) -> None:
    sample, n = _sample(), 600
    augment = kind(probability=probability, standard=None)
    covered = sum(not np.array_equal(augment(sample, generator(i))["masked"], sample.image) for i in range(n))
    assert abs(covered - n * probability) <= 4 * math.sqrt(n * probability * (1 - probability))


@pytest.mark.parametrize("kind", ALL)
def test_the_standard_changes_are_shared(kind: type[Occluder]) -> None:
    sample = _sample()
    plain = kind(probability=1.0, standard=None)(sample, generator(0))
    flipped = kind(probability=1.0, standard=Standard(flip=1.0))(sample, generator(0))
    for view in ("clean", "masked"):
        assert np.array_equal(flipped[view], plain[view][:, ::-1])


def _opacity(kind: type[Occluder], point: NDArray[np.floating[Any]], seed: int) -> float:
    """1 where a pixel that goes from black to white does not show."""
    column, row = np.round(point).astype(int)
    seen = []
    for value in (0, 255):
        sample = _sample()
        sample.image[row, column] = value
        masked = kind(probability=1.0, standard=None)(sample, generator(seed))["masked"]
        seen.append(masked[row, column].astype(int))
    return float(1 - np.abs(seen[1] - seen[0]).max() / 255)


def test_sunglasses_cover_the_eyes_and_leave_nose_tip_and_mouth() -> None:
    image = _sample().image
    for seed in SEEDS:
        for eye in ARCFACE_112[:2]:
            for off in ((0, 0), (-5, 0), (5, 0), (0, 3)):
                assert _opacity(Sunglasses, eye + np.array(off), seed) > 0.88
        masked = Sunglasses(1.0)(_sample(), generator(seed))["masked"]
        assert np.array_equal(masked[80:], image[80:])
        x, y = ARCFACE_112[2].round().astype(int)
        assert np.array_equal(masked[y - 1 : y + 8, x - 2 : x + 3], image[y - 1 : y + 8, x - 2 : x + 3])


def test_a_scarf_covers_nose_mouth_and_chin_and_leaves_the_eyes() -> None:
    image = _sample().image
    for seed in SEEDS:
        for point in (*ARCFACE_112[2:], np.array([56.0, 108.0]), np.array([20.0, 100.0]), np.array([92.0, 100.0])):
            assert _opacity(Scarf, point, seed) > 0.95
        masked = Scarf(1.0)(_sample(), generator(seed))["masked"]
        assert np.array_equal(masked[:58], image[:58])


@pytest.mark.parametrize("kind", [Sunglasses, Scarf])
def test_coverage_scales_with_the_image(kind: type[Occluder]) -> None:
    for seed in range(3):
        shares = []
        for size in (112, 224):
            sample = _sample(size)
            sample.landmarks = template_points((size, size))
            masked = kind(probability=1.0, standard=None)(sample, generator(seed))["masked"]
            shares.append(_changed(sample.image, masked).mean())
        assert shares[1] == pytest.approx(shares[0], abs=0.02)


def test_a_patch_is_one_rectangle_of_the_area_and_aspect_asked_for() -> None:
    sample = _sample()
    shares, ratios = [], []
    for seed in range(200):
        masked = RandomPatch(1.0, area=(0.1, 0.2), aspect=2.0, fill="color")(sample, generator(seed))["masked"]
        rows, columns = np.nonzero((masked != sample.image).any(axis=2))
        patch = masked[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (patch == patch[0, 0]).all()
        shares.append(patch.shape[0] * patch.shape[1] / 112**2)
        ratios.append(patch.shape[0] / patch.shape[1])
    # Sides are whole pixels: a share is off by at most half a pixel of each side, 1/112 of about 35 to 50 pixels.
    assert 0.095 < min(shares) < 0.11 and 0.19 < max(shares) < 0.206
    assert 0.48 < min(ratios) < 0.56 and 1.8 < max(ratios) < 2.08
    assert np.mean(np.array(ratios) > 1) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(200))


def test_a_patch_can_be_noise_and_can_be_all() -> None:
    sample = Sample(np.full((40, 60, 3), 7, np.uint8), 0, "key")
    masked = RandomPatch(1.0, area=(1.0, 1.0))(sample, generator(0))["masked"]
    assert len(np.unique(masked)) > 200
    # The mean of n values spread evenly over 0..255 has a deviation of 73.9 / sqrt(n).
    assert masked.mean() == pytest.approx(127.5, abs=4 * 73.9 / math.sqrt(masked.size))


CHOICES = {"synthetic_mask": SyntheticMask, "sunglasses": Sunglasses, "scarf": Scarf, "random_patch": RandomPatch}


@pytest.mark.parametrize("name", CHOICES)
def test_the_configuration_states_every_parameter_and_its_default(name: str) -> None:
    text = (Path(__file__).parents[2] / "conf" / "augmentation" / f"{name}.yaml").read_text("utf-8")
    first, *rows = text.splitlines()
    assert first.startswith("# ")
    assert all(" # " in row for row in rows if "_target_" not in row)
    values = yaml.safe_load(text)
    assert values.pop("_target_") == f"kdface.augmentations.{CHOICES[name].__name__}"
    standard = values.pop("standard")
    assert standard.pop("_target_") == "kdface.augmentations.Standard"
    for given, part in ((values, CHOICES[name]), (standard, Standard)):
        defaults = {
            key: parameter.default for key, parameter in inspect.signature(part).parameters.items() if key != "standard"
        }
        assert given == {
            key: list(default) if isinstance(default, tuple) else default for key, default in defaults.items()
        }


def test_an_impossible_area_is_told() -> None:
    for area in ((0.3, 0.1), (0.0, 0.5), (0.5, 1.5)):
        with pytest.raises(UserError, match="area"):
            RandomPatch(area=area)


@pytest.mark.parametrize("kind", [*ALL, SyntheticMask])
def test_a_face_outside_the_image_is_not_left_bare_in_silence(kind: type[Occluder]) -> None:
    sample = _sample()
    sample.landmarks = ARCFACE_112 + np.float32(150)
    with pytest.raises(DataError, match=r"^key: .*outside the image"):
        kind(probability=1.0, standard=None)(sample, generator(0, "a"))
    sample.landmarks = ARCFACE_112 + np.float32(50)  # one eye is inside
    kind(probability=1.0, standard=None)(sample, generator(0, "a"))
