"""Pipelines of albumentations before and after the part that makes the views."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from kdface.assembly.parts import build_augmentation
from kdface.augmentations import Periocular, Piped, Standard, SyntheticMask
from kdface.augmentations.periocular import PairedSample
from kdface.config.compose import compose
from kdface.config.fingerprint import fingerprint
from kdface.errors import DataError, UserError
from kdface.faces import ARCFACE_112, Image, Preprocessing, RawSample, Sample
from kdface.randomness import generator

NOISE = {"_target_": "albumentations.GaussNoise", "p": 1.0}
GAMMA = {"_target_": "albumentations.RandomGamma", "gamma_limit": [50, 200], "p": 1.0}
FLIP = {"_target_": "albumentations.HorizontalFlip", "p": 1.0}


def sample(landmarks: bool = True) -> Sample:
    image = np.random.default_rng(0).integers(90, 160, (112, 112, 3), dtype=np.uint8)
    return Sample(image, 0, "ada/7", ARCFACE_112.copy() if landmarks else None)


def changed(one: Image, other: Image) -> bool:
    return not np.array_equal(one, other)


def test_after_acts_on_its_view_alone_and_before_on_all() -> None:
    face = sample()
    plain = SyntheticMask(probability=0.0)
    views = Piped(plain, after={"masked": [NOISE]})(face, generator(0))
    assert changed(views["masked"], face.image) and not changed(views["clean"], face.image)
    views = Piped(plain, before=[GAMMA])(face, generator(0))
    assert changed(views["masked"], face.image) and not changed(views["clean"], views["masked"])


def test_under_all_every_view_is_changed_by_the_same_draws() -> None:
    """And by draws of its own where the same list is given for each view."""
    face, plain = sample(), SyntheticMask(probability=0.0)
    for number in range(5):
        views = Piped(plain, after={"all": [GAMMA, NOISE]})(face, generator(number))
        assert changed(views["masked"], face.image) and not changed(views["clean"], views["masked"])
        views = Piped(plain, after={"clean": [NOISE], "masked": [NOISE]})(face, generator(number))
        assert changed(views["clean"], views["masked"])


def test_they_are_a_function_of_the_generator_alone() -> None:
    face = sample()
    augment = Piped(
        SyntheticMask(standard=Standard(geometric=0.5)),
        before=[{**GAMMA, "p": 0.5}, {**FLIP, "p": 0.5}],
        after={
            "masked": [{"_target_": "albumentations.OneOf", "p": 0.7, "transforms": [NOISE, GAMMA]}],
            "all": [NOISE],
        },
    )
    before = face.image.copy()
    runs = [[augment(face, generator(0, "augment", 1, key)) for key in keys] for keys in ("abcd", "dcba")]
    for one, other in zip(runs[0], reversed(runs[1]), strict=True):
        assert all(not changed(one[name], other[name]) for name in augment.views)
    assert changed(runs[0][0]["clean"], runs[0][1]["clean"])
    assert not changed(face.image, before)


def test_what_is_drawn_in_one_transform_says_nothing_of_the_next() -> None:
    """Of two changes with probability 1/2, both happen to a quarter of the images."""
    white = Sample(np.full((112, 112, 3), 200, np.uint8), 0, "key")
    spot = {"_target_": "albumentations.ToGray", "p": 0.5}
    white.image[:56, :, 0] = 100
    turn = {"_target_": "albumentations.VerticalFlip", "p": 0.5}
    augment = Piped(Standard(flip=0.0), before=[turn, spot])
    both = 0
    for number in range(400):
        image = augment(white, generator(number))["image"]
        both += int(image[0, 0, 1] == 200 and image[0, 0, 0] == 200) and int((image[-1, 0] == image[-1, 0, 0]).all())
    assert abs(both / 400 - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5


@pytest.mark.parametrize("landmarks", [True, False])
def test_a_mask_is_drawn_where_the_face_has_come_to_be(landmarks: bool) -> None:
    """Turned by 20 degrees and mirrored, as the mask that is turned and mirrored."""
    turn = {"_target_": "albumentations.Affine", "rotate": [20, 20], "p": 1.0}
    part = SyntheticMask(probability=1.0, shapes=("surgical",), color="blue", jitter=(0.0, 0.0))
    views = Piped(part, before=[FLIP, turn])(sample(landmarks), generator(0))
    drawn = np.abs(views["masked"].astype(int) - views["clean"]).sum(2) > 0
    centre = np.argwhere(drawn).mean(axis=0)[::-1]
    upright = part(sample(), generator(0))
    across, down = np.argwhere(np.abs(upright["masked"].astype(int) - upright["clean"]).sum(2) > 0).mean(axis=0)[::-1]
    angle = np.deg2rad(-20)  # albumentations turns against the clock, as seen; y points down
    offset = np.array([-(across - 55.5), down - 55.5])
    expected = 55.5 + np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ offset
    assert centre == pytest.approx(expected, abs=2.5)


@pytest.mark.parametrize(
    ("node", "said", "nearest"),
    [
        ({"_target_": "albumentations.GaussNoise", "std_rnge": [0.1, 0.2]}, "no argument 'std_rnge'", "std_range"),
        ({"_target_": "albumentations.GausNoise"}, "exports no 'GausNoise'", "albumentations.GaussNoise"),
        ({"_target_": "albumentations.GaussNoise", "std_range": "much"}, "cannot be built", ""),
        ({"_target_": "albumentations.GaussNoise", "p": 1.5}, "cannot be built", ""),
        ({"_target_": "albumentations.Mosaic"}, "other images", ""),
        ({"_target_": "albumentations.HistogramMatching"}, "other images", ""),
        ({"_target_": "albumentations.OneOf", "transforms": [{"_target_": "albumentations.FDA"}]}, "other images", ""),
        ({"_target_": "albumentations.Lambda", "name": "x", "image": 3}, "cannot be built", ""),
        ({"_target_": "kdface.augmentations.Standard"}, "no transform of albumentations", ""),
        ({"p": 0.5}, "is no transform", ""),
    ],
)
def test_a_node_that_makes_no_transform_is_told(node: dict[str, Any], said: str, nearest: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        Piped(Standard(), before=[node])
    assert error.value.nearest == nearest


@pytest.mark.parametrize("name", ["Normalize", "ToFloat", "Transpose", "CenterCrop"])
def test_images_stay_as_they_are_made(name: str) -> None:
    """Type and size, told before training."""
    extra = {"height": 64, "width": 64} if name == "CenterCrop" else {}
    augment = Piped(Standard(), after={"image": [{"_target_": f"albumentations.{name}", "p": 1.0, **extra}]})
    with pytest.raises(UserError, match=r"augmentation\.after\.image makes") as error:
        augment.preprocessing("image", Preprocessing(size=(112, 96)))
    assert "uint8" in error.value.expected


def test_a_view_that_there_is_not_is_told() -> None:
    with pytest.raises(UserError, match="no such view") as error:
        Piped(SyntheticMask(), after={"mask": [NOISE]})
    assert error.value.nearest == "masked"


def test_a_second_image_is_not_left_behind() -> None:
    face = sample()
    raw = RawSample(face.image, 0, "ada/7", None, raw=face.image, raw_landmarks=ARCFACE_112)
    for given in (raw, PairedSample(face.image, 0, "ada/7", periocular=face.image)):
        with pytest.raises(UserError, match="ada/7") as error:
            Piped(Standard(), before=[NOISE])(given, generator(0))
        assert "augmentation.after" in error.value.fix and not isinstance(error.value, DataError)
        assert ("dataset.keep_raw=false" in error.value.fix) == (given is raw)
    Piped(Periocular(), after={"periocular": [NOISE]})(raw, generator(0))


def test_from_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    base = ["augmentation=synthetic_mask", "method.views.student=masked"]
    noise = "[{_target_: albumentations.GaussNoise, p: 1.0}]"
    plain = compose(base).tree
    assert not isinstance(build_augmentation(plain, Preprocessing()), Piped)
    without = {key: value for key, value in plain["augmentation"].items() if key not in ("before", "after")}
    assert fingerprint(plain) == fingerprint({**plain, "augmentation": without})
    tree = compose([*base, f"augmentation.before={noise}", f"augmentation.after.masked={noise}"]).tree
    augment = build_augmentation(tree, Preprocessing())
    assert isinstance(augment, Piped) and augment.views == ("clean", "masked")
    assert (
        len({fingerprint(config) for config in (plain, tree, compose([*base, f"augmentation.before={noise}"]).tree)})
        == 3
    )
    views = augment(sample(), generator(0))
    assert changed(views["clean"], sample().image)
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"]  # nothing is looked for on the network
    with pytest.raises(UserError, match="is outside"):
        compose([*base, "augmentation.before=[{_target_: os.system, p: 1}]"])
