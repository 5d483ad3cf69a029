"""Augmentations: map a sample to named views, listed in `views`."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np

from kdface.augmentations.misalignment import Misalignment
from kdface.augmentations.occluders import RandomPatch, Scarf, Sunglasses
from kdface.augmentations.periocular import Periocular, StoredPeriocular
from kdface.augmentations.piped import Piped
from kdface.augmentations.standard import Standard
from kdface.augmentations.synthetic_mask import SyntheticMask
from kdface.faces import Image, Preprocessing, Sample


class Augmentation(Protocol):
    """Interface of augmentations.

    `views` names the images it produces; a call returns exactly those, (H, W, 3) uint8 RGB, as a pure function of the
    sample and the generator's state. Draws shared by the views (the flip) are made once, before the views diverge.
    """

    views: ClassVar[tuple[str, ...]]

    def preprocessing(self, view: str, source: Preprocessing) -> Preprocessing:
        """The preprocessing (size, template) of a view, given that of the source images."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> dict[str, Image]: ...


__all__ = [
    "Augmentation",
    "Misalignment",
    "Periocular",
    "Piped",
    "RandomPatch",
    "Scarf",
    "Standard",
    "StoredPeriocular",
    "Sunglasses",
    "SyntheticMask",
]
