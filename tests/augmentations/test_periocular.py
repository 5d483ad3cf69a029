"""The periocular crop: where it lies, and that both views are mirrored together."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from kdface.augmentations import Standard
from kdface.augmentations.periocular import PairedSample, Periocular, Region, StoredPeriocular, resized
from kdface.errors import DataError, UserError
from kdface.faces import ARCFACE_112, Image, Points, Preprocessing, RawSample, Sample, align, template_points
from kdface.randomness import generator

CONF = Path(__file__).parents[2] / "conf" / "augmentation"


def discs(points: Points, height: int = 200, width: int = 240, radius: float = 6) -> Image:
    """Gray, with a soft red disc at the left eye, green at the right, blue at the nose."""
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width, 3), 60.0)
    for channel, (px, py) in enumerate(points[:3]):
        image[..., channel] += 190 * np.clip(radius + 0.5 - np.hypot(x - px, y - py), 0, 1)
    return np.asarray(np.rint(image), dtype=np.uint8)


def centre_of(image: Image, channel: int) -> tuple[float, float]:
    """(x, y) of the mean of what is brighter than the ground."""
    weight = np.clip(image[..., channel].astype(np.float64) - 60, 0, None)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return float((weight * x).sum() / weight.sum()), float((weight * y).sum() / weight.sum())


def tilted(degrees: float, distance: float = 50) -> Points:
    """Eyes `distance` apart around (120, 90) on a line that falls to the right by `degrees`; a nose under them."""
    angle = math.radians(degrees)
    along, down = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    middle = np.array([120.0, 90.0])
    points = [middle - along * distance / 2, middle + along * distance / 2, middle + down * distance * 0.4]
    return np.array([*points, middle + 60 * down, middle + 62 * down], dtype=np.float32)


def test_the_strip_is_centred_between_the_eyes_and_level_with_them() -> None:
    """At 2.5 eye distances in 128 columns an eye is 128 / 5 = 25.6 columns from the middle, whatever the tilt."""
    for degrees in (-35.0, 0.0, 20.0):
        points = tilted(degrees)
        sample = Sample(discs(points, radius=5), 0, "key", points)
        views = Periocular(extent=2.5)(sample, generator(0))
        assert set(views) == set(Periocular.views)
        crop = views["periocular"]
        assert crop.shape == (48, 128, 3) and crop.dtype == np.uint8
        assert np.array_equal(views["face"], sample.image)
        assert centre_of(crop, 0) == pytest.approx((63.5 - 25.6, 23.5), abs=0.1)
        assert centre_of(crop, 1) == pytest.approx((63.5 + 25.6, 23.5), abs=0.1)
        nose = centre_of(crop[:, 40:90], 2)  # 0.4 eye distances under the middle: 0.4 * 51.2 rows
        assert nose[0] + 40 == pytest.approx(63.5, abs=0.1)


def test_the_scale_is_the_same_on_both_axes() -> None:
    points = tilted(10.0)
    crop = Periocular(size=(120, 100), extent=2.0)(Sample(discs(points), 0, "key", points), generator(0))["periocular"]
    assert centre_of(crop, 2) == pytest.approx((49.5, 59.5 + 0.4 * 50), abs=0.1)  # 50 columns an eye distance
    bright = crop[..., 0] > 155
    assert np.ptp(np.flatnonzero(bright.any(0))) == pytest.approx(np.ptp(np.flatnonzero(bright.any(1))), abs=1)


@pytest.mark.parametrize(("region", "channel", "nose"), [("left", 0, 1), ("right", 1, -1)])
def test_one_eye_is_in_the_middle_of_its_crop(region: Region, channel: int, nose: int) -> None:
    points = tilted(-15.0)
    crop = Periocular(region, size=(64, 80), extent=1.6)(Sample(discs(points), 0, "key", points), generator(0))
    assert centre_of(crop["periocular"], channel) == pytest.approx((39.5, 31.5), abs=0.1)
    assert (centre_of(crop["periocular"], 2)[0] - 39.5) * nose == pytest.approx(25, abs=0.2)  # half an eye distance


def test_a_crop_at_the_image_s_own_scale_and_place_is_a_slice() -> None:
    """Eyes level and 20 apart, 2 eye distances wide in 40 columns: pixels are copied, not interpolated."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    points = template_points((60, 80))
    points[:2] = [[29.5, 24.5], [49.5, 24.5]]
    crop = Periocular(size=(16, 40), extent=2.0)(Sample(image, 0, "key", points), generator(0))["periocular"]
    assert np.array_equal(crop, image[17:33, 20:60])


def test_shrinking_averages_areas() -> None:
    """At a third of the scale every pixel is the mean of nine; sampling single points would keep the noise."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    points = template_points((60, 80))
    points[:2] = [[24.5, 29.5], [54.5, 29.5]]  # 30 apart; two distances, 60 columns, in 20
    crop = Periocular(size=(6, 20), extent=2.0)(Sample(image, 0, "key", points), generator(0))["periocular"]
    block = image[21:39, 10:70].astype(np.float64).reshape(6, 3, 20, 3, 3).mean(axis=(1, 3))
    assert np.abs(crop - block).max() <= 1


def test_beyond_the_border_the_border_goes_on() -> None:
    points = np.array([[2, 10], [18, 10], [10, 15], [5, 18], [15, 18]], dtype=np.float32)
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    image[:, :1], image[:, -1:] = 200, 100
    crop = Periocular(size=(10, 40), extent=4.0)(Sample(image, 0, "key", points), generator(0))["periocular"]
    assert (crop[:, :10] == 200).all() and (crop[:, -10:] == 100).all()


def test_without_landmarks_the_eyes_are_where_the_template_has_them() -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    bare = Periocular()(Sample(image, 0, "key"), generator(0))
    told = Periocular()(Sample(image, 0, "key", template_points((96, 96))), generator(0))
    assert np.array_equal(bare["periocular"], told["periocular"])


def soft(seed: int = 0) -> Image:
    noise = np.random.default_rng(seed).integers(0, 256, (112, 112, 3)).astype(np.float32)
    return np.asarray(np.clip(8 * (cv2.GaussianBlur(noise, (0, 0), 3) - 128) + 128, 0, 255), dtype=np.uint8)


def mirrored_points(points: Points, width: int) -> Points:
    """x -> width - 1 - x; left and right change places."""
    return np.asarray((np.array([width - 1, 0]) + points * [-1, 1])[[1, 0, 2, 4, 3]], dtype=np.float32)


def mirrored(sample: Sample) -> Sample:
    assert sample.landmarks is not None
    points = mirrored_points(sample.landmarks, sample.image.shape[1])
    return Sample(np.ascontiguousarray(sample.image[:, ::-1]), sample.label, sample.key, points)


def test_both_views_are_mirrored_together_and_half_of_the_time() -> None:
    sample = Sample(soft(), 0, "key", ARCFACE_112.copy())
    plain = Periocular()(sample, generator(0))
    augment = Periocular(standard=Standard(flip=0.5))
    turns = 0
    for number in range(60):
        views = augment(sample, generator(number))
        again = augment(sample, generator(number))
        signs = set()
        for name in Periocular.views:
            assert np.array_equal(views[name], again[name])
            turned = np.array_equal(views[name], plain[name][:, ::-1])
            assert turned or np.array_equal(views[name], plain[name])
            signs.add(turned)
        assert len(signs) == 1
        turns += signs.pop()
    assert 15 <= turns <= 45  # four standard deviations


@pytest.mark.parametrize("flip_probability", [0.0, 1.0])
@pytest.mark.parametrize("face_size", [None, (56, 56)])
def test_geometric_changes_act_on_the_face_before_the_strip_is_cut(
    flip_probability: float, face_size: tuple[int, int] | None
) -> None:
    """The strip of the changed face, cut where the eyes were, is the changed strip; and it is not the plain one."""
    sample = Sample(soft(), 0, "key", ARCFACE_112.copy())
    standard = Standard(flip=flip_probability, geometric=1.0, rotation=20.0, shift=10.0, scale=0.1)
    size = (20, 50)
    augment = Periocular(size=size, face_size=face_size, extent=1.8, standard=standard)
    plain = Periocular(size=size, face_size=face_size, extent=1.8, standard=Standard(flip=flip_probability))
    factor = (face_size or (112, 112))[0] / 112
    points = (ARCFACE_112 + 0.5) * factor - 0.5
    if flip_probability:
        points = mirrored_points(points.astype(np.float32), (face_size or (112, 112))[1])
    moved = 0
    for number in range(12):
        views = augment(sample, generator(number))
        again = Periocular(size=size, extent=1.8)(
            Sample(views["face"], 0, "key", points.astype(np.float32)), generator(0)
        )["periocular"]
        assert np.abs(views["periocular"].astype(int) - again).mean() < (4 if face_size is None else 10)
        moved += np.abs(views["periocular"].astype(int) - plain(sample, generator(number))["periocular"]).mean() > 20
    assert moved >= 10


def test_nothing_black_comes_into_a_strip_that_stays_within_the_face() -> None:
    sample = Sample(np.full((112, 112, 3), 200, np.uint8), 0, "key", ARCFACE_112.copy())
    augment = Periocular(size=(32, 80), standard=Standard(geometric=1.0, rotation=10.0, shift=10.0, scale=0.1))
    for number in range(20):
        assert (augment(sample, generator(number))["periocular"] == 200).all()


def test_colour_is_changed_alike_in_the_moved_face_and_its_strip() -> None:
    sample = Sample(np.full((112, 112, 3), (120, 60, 30), np.uint8), 0, "key", ARCFACE_112.copy())
    augment = Periocular(
        standard=Standard(flip=0.5, geometric=0.5, rotation=3.0, shift=0.0, scale=0.0, photometric=0.8, grayscale=0.5)
    )
    colours = set()
    for number in range(40):
        views = augment(sample, generator(number))
        face, eyes = (view[view.shape[0] // 2, view.shape[1] // 2].astype(int) for view in views.values())
        assert abs(face - eyes).max() <= 4  # contrast is taken about a mean that sees the face's black corners
        colours.add(tuple(eyes))
    assert len(colours) > 20


@pytest.mark.parametrize("change", [{}, {"photometric": 0.5, "grayscale": 0.5, "blur": 0.5}])
def test_without_geometric_changes_both_views_are_changed_as_by_together(change: dict[str, float]) -> None:
    sample = Sample(soft(), 0, "key", ARCFACE_112.copy())
    standard = Standard(flip=0.5, **change)
    for number in range(10):
        views = Periocular(standard=standard)(sample, generator(number))
        expected = standard.together(Periocular()(sample, generator(number)), generator(number))
        assert all(np.array_equal(views[name], expected[name]) for name in Periocular.views)


def test_the_face_is_changed_as_one_that_is_alone() -> None:
    sample = Sample(soft(), 0, "key", ARCFACE_112.copy())
    standard = Standard(flip=0.5, geometric=0.8, photometric=0.5, grayscale=0.5, blur=0.5)
    for number in range(10):
        face = Periocular(standard=standard)(sample, generator(number))["face"]
        assert np.array_equal(face, standard(sample, generator(number))["image"])


@pytest.mark.parametrize("geometric", [0.0, 1.0])
def test_a_strip_is_cut_from_the_photograph_that_the_sample_brings(geometric: float) -> None:
    """Three times as large and turned: the strip keeps what the crop has lost, at the same place."""
    raw = np.asarray(cv2.resize(soft(), (336, 336), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    raw[::2] = np.where(raw[::2] > 128, 255, 0)  # detail that a third of the size averages away
    angle = math.radians(15)
    turn = 3 * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    on_raw = ((ARCFACE_112 - 55.5) @ turn.T + 167.5).astype(np.float32)
    crop = align(raw, on_raw)
    size = (96, 240)  # larger than the crop's eye region
    standard = Standard(flip=0.5, geometric=geometric)
    photograph = RawSample(crop, 0, "key", None, raw=raw, raw_landmarks=on_raw)
    sharp = Periocular(size=size, standard=standard)(photograph, generator(1))["periocular"].astype(float)
    vague = Periocular(size=size, standard=standard)(Sample(crop, 0, "key"), generator(1))["periocular"].astype(float)
    blurred = [cv2.GaussianBlur(strip, (0, 0), 6) for strip in (sharp, vague)]
    assert np.abs(blurred[0] - blurred[1])[12:-12, 24:-24].mean() < 3
    assert np.abs(np.diff(sharp, axis=0)).mean() > 2 * np.abs(np.diff(vague, axis=0)).mean()


def test_a_mirrored_strip_is_the_strip_of_the_mirrored_face() -> None:
    sample = Sample(soft(), 0, "key", ARCFACE_112.copy())
    after = Periocular(standard=Standard(flip=1.0))(sample, generator(0))["periocular"]
    before = Periocular()(mirrored(sample), generator(0))["periocular"]
    assert np.abs(after.astype(int) - before).max() <= 3  # warps round places to 1/32 of a pixel


def test_a_mirrored_single_eye_is_the_same_eye() -> None:
    """It is the crop of `right` in the mirrored face, for there the left eye is on the right."""
    sample = Sample(soft(), 0, "key", ARCFACE_112.copy())
    after = Periocular("left", (64, 64), standard=Standard(flip=1.0))(sample, generator(0))["periocular"]
    before = Periocular("right", (64, 64))(mirrored(sample), generator(0))["periocular"]
    assert np.abs(after.astype(int) - before).max() <= 3


def test_preprocessing_says_what_the_views_are() -> None:
    source = Preprocessing(size=(112, 112), color="bgr", mean=0.0, std=1.0)
    augment = Periocular(size=(40, 100), extent=2.25, face_size=(128, 128))
    assert augment.preprocessing("face", source) == Preprocessing("arcface", (128, 128), "bgr", 0.0, 1.0)
    crop = augment.preprocessing("periocular", source)
    assert crop == Preprocessing("periocular-strip-2.25", (40, 100), "bgr", 0.0, 1.0)
    assert Periocular().preprocessing("face", source) == source
    views = augment(Sample(soft(), 0, "key"), generator(0))
    assert views["face"].shape == (128, 128, 3) and views["periocular"].shape == (40, 100, 3)
    for part in (Periocular(), StoredPeriocular()):
        with pytest.raises(UserError, match="no view 'periocualr'") as error:
            part.preprocessing("periocualr", source)
        assert error.value.nearest == "periocular"


def test_faces_are_not_distorted() -> None:
    augment = Periocular(face_size=(112, 96))
    with pytest.raises(UserError, match="would distort"):
        augment.preprocessing("face", Preprocessing())
    with pytest.raises(UserError, match="would distort"):
        augment(Sample(soft(), 0, "key"), generator(0))


def test_impossible_values_are_told() -> None:
    with pytest.raises(UserError, match="not a periocular region") as error:
        Periocular("stripe")  # type: ignore[arg-type]
    assert error.value.nearest == "strip"
    for arguments in ({"size": (0, 10)}, {"extent": 0.0}):
        with pytest.raises(UserError, match="empty crop"):
            Periocular(**arguments)


@pytest.mark.parametrize("value", [20.0, math.nan])
def test_eyes_that_make_no_line_are_told(value: float) -> None:
    points = ARCFACE_112.copy()
    points[:2] = value
    with pytest.raises(DataError, match="ada/7: its eyes are at"):
        Periocular()(Sample(soft(), 0, "ada/7", points), generator(0))


def test_a_crop_that_would_stand_on_its_head_is_told() -> None:
    points = ARCFACE_112.copy()
    points[[0, 1]] = points[[1, 0]]
    with pytest.raises(DataError, match="ada/7: its eyes are at") as error:
        Periocular()(Sample(soft(), 0, "ada/7", points), generator(0))
    assert "left of the right one" in error.value.expected


def test_stored_views() -> None:
    face, eyes = soft(), soft(1)[20:60, 6:106]
    sample = PairedSample(face, 0, "key", periocular=eyes)
    views = StoredPeriocular(size=(40, 100))(sample, generator(0))
    assert np.array_equal(views["face"], face) and np.array_equal(views["periocular"], eyes)
    half = StoredPeriocular(size=(20, 50), standard=Standard(flip=1.0))(sample, generator(0))
    assert np.array_equal(half["face"], face[:, ::-1])
    blocks = eyes.astype(np.float64).reshape(20, 2, 50, 2, 3).mean(axis=(1, 3))[:, ::-1]
    assert np.abs(half["periocular"] - blocks).max() <= 0.5
    source = Preprocessing("ckd", (112, 112))
    assert StoredPeriocular().preprocessing("face", source) == source
    assert StoredPeriocular().preprocessing("periocular", source) == Preprocessing("periocular-ckd", (48, 128))


def test_a_dataset_without_stored_views_is_told() -> None:
    for sample in (Sample(soft(), 0, "ada/7"), PairedSample(soft(), 0, "ada/7")):
        with pytest.raises(UserError, match="ada/7: the dataset stores no periocular image") as error:
            StoredPeriocular()(sample, generator(0))
        assert "augmentation=periocular" in error.value.fix


def test_resizing_leaves_images_of_the_size_alone() -> None:
    image = soft()
    assert resized(image, (112, 112)) is image
    assert resized(image, (48, 128)).shape == (48, 128, 3)


def test_a_side_that_shrinks_is_averaged_though_the_other_grows() -> None:
    """Columns alternate between 0 and 250, 3 to 2: each new one holds half of the middle and all of its own."""
    columns = np.tile(np.array([0, 250], dtype=np.uint8), 30)
    image = np.repeat(np.broadcast_to(columns, (10, 60))[..., None], 3, axis=2)
    thirds = columns.reshape(20, 3).astype(float)
    averaged = np.stack([thirds[:, 0] + thirds[:, 1] / 2, thirds[:, 1] / 2 + thirds[:, 2]], axis=1).ravel() / 1.5
    assert np.abs(resized(image, (16, 40)).astype(float) - averaged[None, :, None]).max() <= 0.5


@pytest.mark.parametrize(("choice", "part"), [("periocular", Periocular), ("stored_periocular", StoredPeriocular)])
def test_choices_give_every_parameter_with_its_default(choice: str, part: type) -> None:
    text = (CONF / f"{choice}.yaml").read_text()
    assert all("#" in line for line in text.splitlines() if "_target_" not in line)
    node = yaml.safe_load(text)
    standard = yaml.safe_load((CONF / "standard.yaml").read_text())
    assert node.pop("standard") == standard
    assert node.pop("_target_") == f"kdface.augmentations.{part.__name__}"
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in node.items()}
    made = part(**given)
    assert vars(made) == vars(part())
    assert [*given, "standard"] == list(inspect.signature(part).parameters)
