"""Misalignment: how far landmark noise moves the crop, whose unit it has, and what it leaves alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from kdface.augmentations.misalignment import Misalignment
from kdface.augmentations.standard import Standard
from kdface.config.locate import parameters
from kdface.errors import DataError
from kdface.faces import ARCFACE_112, Points, Preprocessing, RawSample, Sample, align, similarity, template_points
from kdface.randomness import generator

Matrix = NDArray[np.float64]
DRAWS = 4000
SIZE = (112, 112)
CENTRE = ARCFACE_112.mean(axis=0).astype(np.float64)
# AI-KD's landmark noise, p = 3 in source pixels, measured on 4000 draws a row:
# face size, rotation std and 99th percentile (degrees), scale std and mean, centroid shift std, landmark displacement
TABLE = [
    (0.5, 3.78, 9.37, 0.065, 0.977, 1.48, 2.72),
    (1.0, 1.92, 4.76, 0.033, 0.994, 0.77, 1.37),
    (1.5, 1.28, 3.19, 0.022, 0.997, 0.52, 0.93),
    (2.0, 0.97, 2.40, 0.016, 0.999, 0.38, 0.68),
    (3.0, 0.64, 1.61, 0.011, 0.999, 0.26, 0.46),
]


def _face(size: float) -> Points:
    """Landmarks in a photograph whose face is `size` times as large as the template."""
    return np.asarray(ARCFACE_112 * size + np.array([31.0, 17.0]), dtype=np.float32)


def _whole(matrix: Matrix) -> Matrix:
    return np.vstack([matrix, [0, 0, 1]])


def _between(augment: Misalignment, points: Points, draws: int, size: tuple[int, int] = SIZE) -> Matrix:
    """(draws, 3, 3) maps from the aligned to the perturbed crop."""
    back = np.linalg.inv(_whole(similarity(points, template_points(size))))
    rng = generator(0)
    return np.array([_whole(augment.warp(points, size, rng)) @ back for _ in range(draws)])


def _parts(maps: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Rotation in degrees, factor of size, and shift of the template's centre of each map."""
    angle = np.rad2deg(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
    return angle, np.hypot(maps[:, 1, 0], maps[:, 0, 0]), (maps @ np.append(CENTRE, 1.0))[:, :2] - CENTRE


@pytest.mark.parametrize(("face", "angle", "p99", "spread", "mean", "shift", "displaced"), TABLE)
def test_source_pixels_move_the_crop_as_published(
    face: float, angle: float, p99: float, spread: float, mean: float, shift: float, displaced: float
) -> None:
    maps = _between(Misalignment(3.0, "source"), _face(face), DRAWS)
    angles, factors, shifts = _parts(maps)
    # Both sides are samples of 4000: four standard errors of their difference, and half a unit of the last digit.
    error = 4 * np.sqrt(2) / np.sqrt(2 * DRAWS)
    assert angles.std() == pytest.approx(angle, rel=error, abs=0.005)
    assert np.quantile(np.abs(angles), 0.99) == pytest.approx(p99, abs=0.005 + 4 * np.sqrt(2) * 0.055 * angle)
    assert abs(factors.std() - spread) < error * spread + 0.0005
    assert abs(factors.mean() - mean) < 4 * np.sqrt(2) * spread / np.sqrt(DRAWS) + 0.0005
    assert abs(shifts.std(axis=0) - shift).max() < error * shift + 0.005
    ends = ARCFACE_112.astype(np.float64) @ maps[:, :2, :2].transpose(0, 2, 1) + maps[:, None, :2, 2]
    far = np.linalg.norm(ends - ARCFACE_112, axis=2).mean()
    assert abs(far - displaced) < 0.05 * displaced + 0.005


def test_source_pixels_agree_with_the_first_order() -> None:
    S = float(((ARCFACE_112 - CENTRE) ** 2).sum())
    assert pytest.approx(2702, abs=0.5) == S
    face, p = 3.0, 3.0
    angles, factors, shifts = _parts(_between(Misalignment(p, "source"), _face(face), DRAWS))
    error = 4 / np.sqrt(2 * DRAWS)
    assert np.deg2rad(angles).std() == pytest.approx(p / np.sqrt(3) / (face * np.sqrt(S)), rel=error)
    assert factors.std() == pytest.approx(p / np.sqrt(3) / (face * np.sqrt(S)), rel=error)
    assert shifts.std(axis=0) == pytest.approx([p / (np.sqrt(15) * face)] * 2, rel=error)


@pytest.mark.parametrize("face", [0.5, 1.5, 3.0])
def test_template_pixels_are_as_hard_for_any_face(face: float) -> None:
    augment = Misalignment(3.0, "template")
    assert _between(augment, _face(face), 50) == pytest.approx(_between(augment, _face(1.0), 50), abs=1e-3)
    assert _between(augment, _face(1.0), 50) == pytest.approx(
        _between(Misalignment(3.0, "source"), _face(1.0), 50), abs=1e-3
    )


def test_template_pixels_are_those_of_a_112_px_crop() -> None:
    augment = Misalignment(3.0, "template", shift=4.0)
    small = _between(augment, template_points(SIZE), 50)
    large = _between(augment, template_points((224, 224)), 50, (224, 224))
    assert large[:, :, :2] == pytest.approx(small[:, :, :2], abs=1e-4)
    assert large[:, :2, 2] == pytest.approx(2 * small[:, :2, 2], abs=1e-2)


def _crop() -> Sample:
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    return Sample(image, 0, "ada/1.jpg", ARCFACE_112.copy())


def _photograph() -> RawSample:
    raw = np.random.default_rng(1).integers(0, 256, (300, 320, 3), dtype=np.uint8)
    points = _face(1.7)
    return RawSample(align(raw, points), 0, "ada/1.jpg", None, raw=raw, raw_landmarks=points)


@pytest.mark.parametrize("unit", ["template", "source"])
def test_without_noise_the_views_are_equal(unit: Any) -> None:
    for sample in (_crop(), Sample(_crop().image, 0, "no landmarks"), _photograph()):
        views = Misalignment(0.0, unit)(sample, generator(0))
        assert np.array_equal(views["aligned"], sample.image)
        assert np.array_equal(views["perturbed"], sample.image)


def test_a_photograph_is_aligned_once_by_the_wrong_landmarks() -> None:
    sample = _photograph()
    noise = generator(0).uniform(-3, 3, (5, 2)).astype(np.float32)
    views = Misalignment(3.0, "source")(sample, generator(0))
    expected = align(sample.raw, sample.raw_landmarks + noise)
    # The float32 landmarks of the two sides are rounded at different places.
    assert np.quantile(np.abs(views["perturbed"].astype(int) - expected), 0.95) <= 1
    assert np.array_equal(views["aligned"], sample.image)
    assert not np.array_equal(views["perturbed"], sample.image)


def test_nothing_of_the_sample_is_changed() -> None:
    """Landmarks changed in place would walk at random over the epochs."""
    for sample in (_crop(), _photograph()):
        before = copy.deepcopy(vars(sample))
        augment = Misalignment(3.0, shift=2.0, rotation=5.0, scale=0.1, standard=Standard(flip=0.5))
        for number in range(10):
            augment(sample, generator(number))
        for name, value in vars(sample).items():
            assert np.array_equal(before[name], value), name


def test_draws_repeat_and_vary() -> None:
    augment = Misalignment(3.0)
    one, again, other = (augment(_crop(), generator(seed))["perturbed"] for seed in (0, 0, 1))
    assert one.shape == (112, 112, 3) and one.dtype == np.uint8
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_shift_rotation_and_scale_are_uniform_about_the_middle_of_the_face() -> None:
    draws = 1000
    error = 4 * np.sqrt(0.8 / draws)  # four standard errors of a uniform variance, relative: (9/5 - 1) / n
    angles, factors, shifts = _parts(_between(Misalignment(0.0, shift=5.0), _face(1.4), draws))
    assert angles == pytest.approx(0, abs=1e-4) and factors == pytest.approx(1, abs=1e-5)
    assert np.abs(shifts).max() <= 5.001
    assert shifts.var(axis=0) == pytest.approx([25 / 3] * 2, rel=error)
    assert abs(float(np.corrcoef(shifts[:, 0], shifts[:, 1])[0, 1])) < 4 / np.sqrt(draws)

    angles, factors, shifts = _parts(_between(Misalignment(0.0, rotation=20.0), _face(1.4), draws))
    assert shifts == pytest.approx(0, abs=1e-3) and factors == pytest.approx(1, abs=1e-5)
    assert np.abs(angles).max() <= 20.001
    assert angles.var() == pytest.approx(400 / 3, rel=error)

    angles, factors, shifts = _parts(_between(Misalignment(0.0, scale=0.2), _face(1.4), draws))
    assert shifts == pytest.approx(0, abs=1e-3) and angles == pytest.approx(0, abs=1e-4)
    assert factors.min() >= 0.7999 and factors.max() <= 1.2001
    assert factors.var() == pytest.approx(0.04 / 3, rel=error)


def test_the_border_is_black_or_the_edge() -> None:
    white = Sample(np.full((112, 112, 3), 255, dtype=np.uint8), 0, "white")
    black = Misalignment(0.0, shift=20.0)(white, generator(0))["perturbed"]
    assert (black == 0).any()
    assert (Misalignment(0.0, shift=20.0, border="replicate")(white, generator(0))["perturbed"] == 255).all()
    photograph = RawSample(white.image, 0, "white", raw=np.full((400, 400, 3), 255, np.uint8), raw_landmarks=_face(2.0))
    photograph.raw_landmarks += 60
    assert (Misalignment(0.0, shift=10.0)(photograph, generator(0))["perturbed"] == 255).all()  # pixels beyond the crop


def test_both_views_are_flipped_alike() -> None:
    sample = _crop()
    views = Misalignment(0.0, standard=Standard(flip=1.0))(sample, generator(0))
    assert np.array_equal(views["aligned"], sample.image[:, ::-1])
    assert np.array_equal(views["perturbed"], sample.image[:, ::-1])


def test_views_and_their_preprocessing() -> None:
    kind = Preprocessing(size=(112, 96))
    assert Misalignment.views == ("aligned", "perturbed")
    assert all(Misalignment().preprocessing(view, kind) == kind for view in Misalignment.views)


def test_landmarks_that_cannot_be_aligned_are_named() -> None:
    sample = Sample(_crop().image, 0, "bo/7.jpg", np.full((5, 2), 40, dtype=np.float32))
    with pytest.raises(DataError, match=r"bo/7\.jpg: landmarks coincide"):
        Misalignment()(sample, generator(0))


def test_the_configuration_names_every_parameter_and_its_default() -> None:
    node = yaml.safe_load((Path(__file__).parents[2] / "conf/augmentation/misalignment.yaml").read_text())
    known = parameters(Misalignment)
    assert set(node) - {"_target_"} == set(known)
    assert {name: node[name] for name in known if name != "standard"} == {
        name: parameter.default for name, parameter in known.items() if name != "standard"
    }
    assert set(node["standard"]) - {"_target_"} == set(parameters(Standard))
