"""Mistakes in augmentations and the pipelines around them."""

from __future__ import annotations

from tests.advice.fixtures import BARE
from tests.advice.row import Row
from tests.conftest import UNTESTED
from tests.fuzz.data_kinds import _landmarks

MASKED = ("augmentation=synthetic_mask", "method.views.student=masked")
NOISE = "[{_target_:albumentations.GaussNoise,p:0.5}]"
RAW = ("dataset=raw_folder", "dataset.root=raw", "dataset.landmarks=points.csv", "dataset.size=[32,32]")


def _run(*words: str, told: str) -> Row:
    return Row(("train", *UNTESTED, "trainer.max_steps=1", *words), told, run=True)


ROWS = [
    _run(*MASKED, f"augmentation.after.maskd={NOISE}", told="has no such view"),
    _run("augmentation.before=[{_target_:albumentations.GausNoise}]", told="exports no 'GausNoise'"),
    _run(
        "augmentation.before=[{_target_:albumentations.GaussNoise,per_chanel:true}]",
        told="no argument 'per_chanel'",
    ),
    _run("augmentation.before=[{_target_:albumentations.Mosaic}]", told="needs other images"),
    _run("augmentation.after.image=[{_target_:albumentations.ToFloat,p:1.0}]", told="float32 images"),
    Row(
        (
            *("train", *BARE, *RAW, "dataset.keep_raw=true", "loader.batch_size=2", "trainer.max_steps=1"),
            "augmentation.before=[{_target_:albumentations.GaussNoise,p:0.5}]",
        ),
        "augmentation.before would change the face",
        set_up=_landmarks,
        run=True,
    ),
]
