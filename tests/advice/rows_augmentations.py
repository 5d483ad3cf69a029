"""Mistakes in augmentations and the pipelines around them."""

from __future__ import annotations

from tests.advice.harness import tiny

MASKED = ("augmentation=synthetic_mask", "method.views.student=masked")
NOISE = "[{_target_:albumentations.GaussNoise,p:0.5}]"
ROWS = [
    tiny(*MASKED, f"augmentation.after.maskd={NOISE}", told="makes no such view", run=True),
    tiny("augmentation.before=[{_target_:albumentations.GausNoise}]", told="exports no 'GausNoise'", run=True),
    tiny(
        "augmentation.before=[{_target_:albumentations.GaussNoise,per_chanel:true}]",
        told="no argument 'per_chanel'",
        run=True,
    ),
    tiny("augmentation.before=[{_target_:albumentations.Mosaic}]", told="brings in other images", run=True),
    tiny("augmentation.after.image=[{_target_:albumentations.ToFloat,p:1.0}]", told="float32 images", run=True),
]
