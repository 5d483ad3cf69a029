"""Synthetic masks: views, place, coverage, light, and what must not be touched."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.augmentations.masks.camera import camera
from kdface.augmentations.masks.outlines import Shape
from kdface.augmentations.masks.paint import density
from kdface.augmentations.masks.sprite import _mask
from kdface.augmentations.standard import Standard
from kdface.augmentations.synthetic_mask import SHAPES, SyntheticMask, draw_mask
from kdface.errors import DataError, UserError
from kdface.faces import ARCFACE_112, Image, Points, Sample, template_points
from kdface.randomness import generator

SEEDS = range(12)


def _noise(height: int = 112, width: int = 112) -> Image:
    """An image in which nearly every pixel that is painted over changes by more than `_changed` asks for."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _sample() -> Sample:
    return Sample(_noise(), 0, "key")


def _changed(before: Image, after: Image, least: int = 10) -> NDArray[np.bool_]:
    return np.asarray(np.abs(before.astype(int) - after).max(axis=2) > least)


def _centroid(changed: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows, columns = np.nonzero(changed)
    return np.array([columns.mean(), rows.mean()])


def _opacity(image: Image, landmarks: Points, point: Points, seed: int, shape: Shape) -> float:
    """How little the pixel under a mask shows: one pixel goes from black to white, which hardly changes the light."""
    column, row = np.round(point).astype(int)
    seen = []
    for value in (0, 255):
        face = image.copy()
        face[row, column] = value
        seen.append(draw_mask(face, landmarks, generator(seed), shapes=[shape])[row, column].astype(int))
    return float(1 - np.abs(seen[1] - seen[0]).max() / 255)


def test_shapes_are_those_of_the_type() -> None:
    assert set(SHAPES) == set(get_args(Shape))


def test_clean_is_the_face_and_nothing_is_written_to_it() -> None:
    sample = _sample()
    before = sample.image.copy()
    views = SyntheticMask(probability=1.0)(sample, generator(0))
    assert tuple(views) == SyntheticMask.views == ("clean", "masked")
    assert np.array_equal(sample.image, before)
    assert np.array_equal(views["clean"], before)
    assert not np.array_equal(views["masked"], before)
    assert not np.shares_memory(views["clean"], views["masked"])
    assert views["masked"].shape == before.shape and views["masked"].dtype == np.uint8


def test_unmasked_views_are_equal_but_not_the_same_memory() -> None:
    views = SyntheticMask(probability=0.0)(_sample(), generator(0))
    assert np.array_equal(views["clean"], views["masked"])
    assert not np.shares_memory(views["clean"], views["masked"])


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_the_mask_has_its_probability(probability: float) -> None:
    sample, augment, n = _sample(), SyntheticMask(probability), 1200
    masked = sum(not np.array_equal(augment(sample, generator(i))["masked"], sample.image) for i in range(n))
    assert abs(masked - n * probability) <= 4 * math.sqrt(n * probability * (1 - probability))


def test_equal_generators_give_equal_masks_and_others_others() -> None:
    sample, augment = _sample(), SyntheticMask(1.0)
    one, again, other = (augment(sample, generator(0, key))["masked"] for key in ("a", "a", "b"))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("shape", SHAPES)
def test_eyes_stay_free(shape: Shape) -> None:
    image = _noise()
    for seed in SEEDS:
        masked = draw_mask(image, ARCFACE_112, generator(seed), shapes=[shape])
        for x, y in ARCFACE_112[:2].round().astype(int):
            eye = np.s_[y - 4 : y + 5, x - 7 : x + 8]
            assert np.array_equal(masked[eye], image[eye])


@pytest.mark.parametrize("shape", SHAPES)
def test_nose_and_mouth_are_covered(shape: Shape) -> None:
    for seed in SEEDS:
        for point in (*ARCFACE_112[2:], ARCFACE_112[3:].mean(axis=0)):
            assert _opacity(_noise(), ARCFACE_112, point, seed, shape) > 0.95


def test_a_surgical_mask_covers_a_fifth_to_two_fifths_of_the_crop() -> None:
    image = _noise()
    for seed in SEEDS:
        assert 0.2 < _changed(image, draw_mask(image, ARCFACE_112, generator(seed), shapes=["surgical"])).mean() < 0.4


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mask_scales_with_the_face(shape: Shape) -> None:
    small, large = _noise(), _noise(224, 224)
    for seed in range(4):
        shares = [
            _changed(image, draw_mask(image, template_points(image.shape[:2]), generator(seed), shapes=[shape])).mean()
            for image in (small, large)
        ]
        assert shares[1] == pytest.approx(shares[0], abs=0.02)


@pytest.mark.parametrize("degrees", [-35.0, 20.0, 90.0, 180.0])
def test_the_mask_turns_with_the_landmarks_of_a_raw_image(degrees: float) -> None:
    image, centre = _noise(320, 300), np.array([150.0, 160.0])
    upright = (ARCFACE_112 - ARCFACE_112.mean(axis=0)) * 1.5 + centre
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    turned = ((upright - centre) @ turn.T + centre).astype(np.float32)
    for seed in range(4):
        before, after = (
            _centroid(_changed(image, draw_mask(image, points, generator(seed), jitter=(0.0, 0.0))))
            for points in (upright.astype(np.float32), turned)
        )
        assert after == pytest.approx(turn @ (before - centre) + centre, abs=0.4)


def _turned(yaw: float) -> Points:
    """Landmarks of a head turned by `yaw` degrees to the right of the image, by orthographic projection.

    Depths as in any head: the nose stands out by half the distance of the eyes, the mouth by a seventh.
    """
    angle = math.radians(yaw)
    axis = ARCFACE_112[[0, 1, 3, 4], 0].mean()
    depth = np.array([0.0, 0.0, 16.0, 5.0, 5.0])
    x = (ARCFACE_112[:, 0] - axis) * math.cos(angle) + depth * math.sin(angle)
    return np.column_stack([x + 100.0, ARCFACE_112[:, 1] + 40.0]).astype(np.float32)


@pytest.mark.parametrize("yaw", [-25.0, 25.0])
def test_on_a_turned_head_the_near_cheek_shows_more_of_the_mask(yaw: float) -> None:
    image, landmarks = _noise(200, 200), _turned(yaw)
    assert camera(landmarks).slant == pytest.approx(math.tan(math.radians(yaw)), abs=0.02)
    changed = _changed(image, draw_mask(image, landmarks, generator(0), shapes=["surgical"], jitter=(0.0, 0.0)))
    row = changed[int(landmarks[2, 1]) + 10]
    first, last = np.flatnonzero(row)[[0, -1]]
    left, right = landmarks[2, 0] - first, last - landmarks[2, 0]
    assert (left > 1.5 * right) if yaw > 0 else (right > 1.5 * left)
    for point in landmarks[2:]:
        assert _opacity(image, landmarks, point, 0, "surgical") > 0.95


@pytest.mark.parametrize("yaw", [-50.0, 40.0, 50.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_near_a_profile_the_mask_reaches_over_the_near_cheek(shape: Shape, yaw: float) -> None:
    """Nose and mouth are covered, and so is the cheek 32 px beside the middle, which lies 15 px behind the eyes."""
    image, landmarks = _noise(200, 200), _turned(yaw)
    angle = math.radians(yaw)
    cheek = [100 - math.copysign(32 * math.cos(angle), yaw) - 15.3 * math.sin(angle), 40 + 86.0]
    for point in (*landmarks[2:], np.array(cheek)):
        assert _opacity(image, landmarks, point, 0, shape) > 0.9


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_drawing_is_finite_for_faces_of_any_size(shape: Shape) -> None:
    for scale in (0.2, 0.5, 1.0, 2.0):
        _, drawing = _mask(shape, "plain", 0, density(scale))
        assert all(np.isfinite(field).all() for field in drawing)


def test_the_camera_sees_the_template_as_itself() -> None:
    seen = camera(ARCFACE_112)
    assert seen.slant == pytest.approx(0, abs=1e-5) and seen.scale == pytest.approx(1, abs=1e-5)
    assert seen.see(0.0, 80.0) == pytest.approx((ARCFACE_112[[0, 1, 3, 4], 0].mean(), 80.0), abs=1e-3)


@pytest.mark.parametrize("size", [112, 224])
def test_the_official_offset_is_eight_pixels_of_112_to_the_left(size: int) -> None:
    image, landmarks = _noise(size, size), template_points((size, size))
    for seed in range(4):
        here, there = (
            _centroid(
                _changed(image, draw_mask(image, landmarks, generator(seed), shapes=["n95"], official_offset=offset))
            )
            for offset in (False, True)
        )
        assert there - here == pytest.approx([-8 * size / 112, 0], abs=0.4 * size / 112)


def test_jitter_moves_the_mask_by_no_more_than_it_says() -> None:
    image, landmarks = _noise(200, 200), (ARCFACE_112 + 40).astype(np.float32)
    middle = int(landmarks[2, 0])
    tops = []
    for seed in range(60):
        changed = _changed(image, draw_mask(image, landmarks, generator(seed), shapes=["surgical"], jitter=(0, 3)), 40)
        tops.append(int(np.flatnonzero(changed[:, middle])[0]))
    assert 4 <= max(tops) - min(tops) <= 7


def _lit(left: float, right: float, tint: tuple[float, float, float] = (1.2, 0.95, 0.83)) -> Image:
    ramp = np.linspace(left, right, 112)[None, :, None] * np.array(tint)
    return np.asarray(np.clip(np.broadcast_to(ramp, (112, 112, 3)), 0, 255), np.uint8)


def _cloth(image: Image, columns: slice) -> float:
    masked = draw_mask(image, ARCFACE_112, generator(3), shapes=["surgical"], color="white", jitter=(0.0, 0.0))
    return float(masked[76:100, columns].mean())


def test_the_mask_is_lit_as_the_face_is() -> None:
    left, right = slice(24, 44), slice(68, 88)
    assert _cloth(_lit(180, 90), left) > 1.2 * _cloth(_lit(180, 90), right)
    assert _cloth(_lit(90, 180), right) > 1.2 * _cloth(_lit(90, 180), left)
    assert _cloth(_lit(160, 160), left) == pytest.approx(_cloth(_lit(160, 160), right), rel=0.12)
    assert _cloth(_lit(150, 150), left) > 1.3 * _cloth(_lit(60, 60), left)


def test_in_a_grey_picture_the_mask_is_grey() -> None:
    image = np.repeat(_noise()[..., :1], 3, axis=2)
    masked = draw_mask(image, ARCFACE_112, generator(0), color="pink").astype(int)
    assert np.ptp(masked, axis=2).max() <= 1


def test_the_edge_is_blended() -> None:
    """From skin to a black mask there is a pixel between, and none beyond either."""
    image = np.full((112, 112, 3), 200, np.uint8)
    masked = draw_mask(image, ARCFACE_112, generator(1), shapes=["n95"], color="black", jitter=(0.0, 0.0))
    column = masked[:112, 56, 0].astype(int)
    inside = int(np.flatnonzero(column < 120)[0])
    assert ((column[inside - 4 : inside] > 120) & (column[inside - 4 : inside] < 195)).any()
    assert masked.max() <= 200


def test_a_dye_gives_masks_of_that_color() -> None:
    image = np.full((112, 112, 3), (190, 150, 130), np.uint8)
    for seed in SEEDS:
        red, _, blue = (
            draw_mask(image, ARCFACE_112, generator(seed), color="blue", shapes=["surgical"])[86:98, 40:72]
            .reshape(-1, 3)
            .mean(axis=0)
        )
        assert blue > red


def test_without_landmarks_the_face_lies_on_the_template() -> None:
    image = _noise(112, 96)
    aware = Sample(image, 0, "key", template_points((112, 96)))
    augment = SyntheticMask(1.0)
    assert np.array_equal(
        augment(aware, generator(0))["masked"], augment(Sample(image, 0, "key"), generator(0))["masked"]
    )


def test_the_standard_changes_are_shared_and_come_after_the_mask() -> None:
    sample = _sample()
    plain = SyntheticMask(1.0)(sample, generator(0))
    flipped = SyntheticMask(1.0, standard=Standard(flip=1.0))(sample, generator(0))
    for view in ("clean", "masked"):
        assert np.array_equal(flipped[view], plain[view][:, ::-1])


def test_aliasing_as_published_gives_the_mask_to_both() -> None:
    sample = _sample()
    before = sample.image.copy()
    views = SyntheticMask(1.0, alias_clean=True)(sample, generator(0))
    assert np.array_equal(views["clean"], views["masked"]) and not np.array_equal(views["clean"], before)
    assert np.array_equal(sample.image, before)


def test_a_face_outside_the_image_leaves_it_as_it_is() -> None:
    image = _noise()
    assert np.array_equal(draw_mask(image, (ARCFACE_112 + 500).astype(np.float32), generator(0)), image)


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="surgcal") as told:
        SyntheticMask(shapes=("surgcal",))  # type: ignore[arg-type]
    assert told.value.nearest == "surgical"
    with pytest.raises(UserError, match="empty"):
        SyntheticMask(shapes=())
    with pytest.raises(UserError, match="blu"):
        SyntheticMask(color="blu")  # type: ignore[arg-type]
    for points in (ARCFACE_112[:4], ARCFACE_112[[1, 0, 2, 4, 3]], np.full((5, 2), np.nan), np.zeros((5, 2))):
        with pytest.raises(DataError, match="landmarks"):
            draw_mask(_noise(), points.astype(np.float32), generator(0))
