"""The horizontal flip, drawn once and before a sample parts into views, so that all views share it."""

from __future__ import annotations

import dataclasses

import numpy as np

from kdface.faces import Points, Sample

_MIRRORED = [1, 0, 2, 4, 3]  # left and right change places: eyes, nose, mouth corners


def flip(sample: Sample, rng: np.random.Generator, probability: float) -> Sample:
    """The sample, mirrored with the given probability, its landmarks mirrored and renamed with it."""
    if rng.random() >= probability:
        return sample
    return dataclasses.replace(
        sample,
        image=np.ascontiguousarray(sample.image[:, ::-1]),
        landmarks=None if sample.landmarks is None else mirror_points(sample.landmarks, sample.image.shape[1]),
    )


def mirror_points(points: Points, width: int) -> Points:
    """Landmarks of the mirrored image: x -> width - 1 - x, left and right exchanged."""
    mirrored = points[_MIRRORED].copy()
    mirrored[:, 0] = width - 1 - mirrored[:, 0]
    return mirrored
