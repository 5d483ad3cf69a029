"""The augmentations as transforms of albumentations: the same drawing, replayed and serialised."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest

from kdface import augmentations
from kdface.augmentations import transforms
from kdface.augmentations.albumentation import alb
from kdface.augmentations.masks.occluder import Occluder
from kdface.errors import DataError
from kdface.faces import ARCFACE_112, Image, Sample
from kdface.randomness import generator

POINTS = alb.KeypointParams("xy", remove_invisible=False)
ALL = [getattr(transforms, name) for name in transforms.__all__]
OCCLUSIONS = ["SyntheticMask", "Sunglasses", "Scarf", "RandomPatch"]


def face() -> Image:
    return np.random.default_rng(0).integers(90, 160, (112, 112, 3), dtype=np.uint8)


def drawn(pipeline: Any, seed: int, **data: Any) -> dict[str, Any]:
    pipeline.set_random_seed(seed)
    found: dict[str, Any] = pipeline(**{"image": face(), "keypoints": ARCFACE_112, **data})
    return found


@pytest.mark.parametrize("name", OCCLUSIONS)
def test_an_occlusion_is_that_of_the_view_maker(name: str) -> None:
    """By the number that the transform draws, on the landmarks that are its keypoints, which stay."""
    pipeline = alb.Compose([getattr(transforms, name)(p=1.0)], keypoint_params=POINTS)
    moved = ARCFACE_112 * 0.9 + 4
    part: Occluder = getattr(augmentations, name)(probability=1.0)
    for seed in range(3):
        made = drawn(pipeline, seed, keypoints=moved)
        number = int(np.random.default_rng(seed).integers(2**32))
        assert np.array_equal(made["image"], part.cover(face(), moved, np.random.default_rng(number)))
        assert made["keypoints"] == pytest.approx(moved)
    assert not np.array_equal(drawn(pipeline, 0)["image"], drawn(pipeline, 1)["image"])


@pytest.mark.parametrize("kind", ALL)
def test_replayed_it_is_the_same_and_so_is_what_was_serialised(kind: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # albumentations warns of what it may not be able to replay
        pipeline = alb.ReplayCompose([alb.HorizontalFlip(p=0.5), kind(p=0.7)], keypoint_params=POINTS)
        for seed in range(4):
            made = drawn(pipeline, seed)
            saved = json.loads(json.dumps(made["replay"]))
            again = alb.ReplayCompose.replay(saved, image=face(), keypoints=ARCFACE_112)
            assert np.array_equal(again["image"], made["image"])
            assert again["keypoints"] == pytest.approx(made["keypoints"])
        plain = alb.Compose([kind(p=0.7)], keypoint_params=POINTS)
        loaded = alb.from_dict(json.loads(json.dumps(alb.to_dict(plain))))
        assert all(np.array_equal(drawn(plain, seed)["image"], drawn(loaded, seed)["image"]) for seed in range(4))


def test_serialised_arguments_are_the_given_ones() -> None:
    given = transforms.SyntheticMask(shapes=("n95",), color="black", jitter=(0.0, 0.0), p=1.0)
    node = alb.to_dict(given)["transform"]
    assert (node["shapes"], node["color"], node["jitter"], node["p"]) == (("n95",), "black", (0.0, 0.0), 1.0)
    assert node["__class_fullname__"] == "kdface.augmentations.transforms.SyntheticMask"


def test_a_strip_is_that_of_the_view_maker_and_keypoints_lie_in_it() -> None:
    made = drawn(alb.Compose([transforms.Periocular(size=(40, 100))], keypoint_params=POINTS), 0)
    views = augmentations.Periocular(size=(40, 100))(Sample(face(), 0, "key", ARCFACE_112), generator(0))
    assert np.array_equal(made["image"], views["periocular"])
    # 2.5 eye distances in 100 columns: each eye 20 columns from the middle.
    assert made["keypoints"][:2] == pytest.approx(np.array([[29.5, 19.5], [69.5, 19.5]]), abs=1e-3)


def test_a_misalignment_moves_keypoints_with_the_image() -> None:
    pipeline = alb.Compose([transforms.Misalignment(pixels=6.0, size=(112, 112))], keypoint_params=POINTS)
    spot = np.zeros((200, 240, 3), np.uint8)
    points = ARCFACE_112 + np.array([60, 40])
    y, x = np.mgrid[:200, :240]
    spot[..., 0] = np.clip(255 - 40 * np.hypot(x - points[2, 0], y - points[2, 1]), 0, 255)
    made = drawn(pipeline, 0, image=spot, keypoints=points)
    assert made["image"].shape == (112, 112, 3)
    weight = made["image"][..., 0].astype(float)
    y, x = np.mgrid[:112, :112]
    nose = ((weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum())
    assert made["keypoints"][2] == pytest.approx(nose, abs=0.1)
    assert 0.3 < np.abs(made["keypoints"] - ARCFACE_112).max() < 12


def test_without_keypoints_the_image_is_an_aligned_crop() -> None:
    pipeline = alb.Compose([transforms.SyntheticMask(p=1.0), alb.GaussNoise(p=1.0)])
    pipeline.set_random_seed(0)
    bare = pipeline(image=face())["image"]
    told = alb.Compose([transforms.SyntheticMask(p=1.0), alb.GaussNoise(p=1.0)], keypoint_params=POINTS)
    assert np.array_equal(bare, drawn(told, 0)["image"])


def test_a_mask_is_drawn_on_a_mirrored_face() -> None:
    """A flip moves keypoints and leaves their order: left eye and right eye have changed places."""
    pipeline = alb.Compose([alb.HorizontalFlip(p=1.0), transforms.SyntheticMask(p=1.0)], keypoint_params=POINTS)
    changed = np.abs(drawn(pipeline, 0)["image"].astype(int) - face()[:, ::-1]).sum(2) > 0
    assert changed[70:105, 40:72].mean() > 0.9 and not changed[:45].any()


def test_keypoints_that_are_no_landmarks_are_told() -> None:
    with pytest.raises(DataError, match="4 keypoints") as error:
        drawn(alb.Compose([transforms.Scarf(p=1.0)], keypoint_params=POINTS), 0, keypoints=ARCFACE_112[:4])
    assert "remove_invisible=False" in error.value.fix
