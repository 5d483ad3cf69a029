"""Base class of occluders: two views of a face, the second one covered with some probability."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le

from kdface.augmentations.standard import Standard
from kdface.errors import DataError
from kdface.faces import Image, Points, Preprocessing, Sample, template_points

Probability = Annotated[float, Ge(0), Le(1)]


class Occluder(ABC):
    """Views `clean`, never covered, and `masked`, covered with `probability`; then `standard` on both, identically.

    Does not modify the sample's image. Samples without landmarks are assumed to be aligned to the template; raises
    `DataError` if all landmarks are outside the image.
    """

    views: ClassVar[tuple[str, ...]] = ("clean", "masked")

    def __init__(self, probability: float, standard: Standard | None) -> None:
        self.probability = probability
        self.standard = standard

    def preprocessing(self, view: str, source: Preprocessing) -> Preprocessing:
        """Unchanged for both views."""
        del view
        return source

    def __call__(self, sample: Sample, rng: np.random.Generator) -> dict[str, Image]:
        """Both views, (H, W, 3) uint8 RGB, a pure function of the sample and the generator's state."""
        covered = rng.random() < self.probability
        height, width = sample.image.shape[:2]
        landmarks = template_points((height, width)) if sample.landmarks is None else sample.landmarks
        if covered and not ((landmarks >= 0) & (landmarks < (width, height))).all(axis=1).any():
            raise DataError(
                f"{sample.key}: the face's landmarks lie outside the image, so the occluder would, too.",
                expected=f"(x, y) in pixels, within {width} x {height}",
                fix="kdface data verify DATASET lists implausible landmarks",
            )
        masked = self.cover(sample.image, landmarks, rng) if covered else sample.image.copy()
        views = {"clean": sample.image, "masked": masked}
        return self.standard.together(views, rng) if self.standard is not None else views

    @abstractmethod
    def cover(self, image: Image, landmarks: Points, rng: np.random.Generator) -> Image:
        """A covered copy of an image."""
