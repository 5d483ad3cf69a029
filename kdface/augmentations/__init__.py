"""Augmentations: a sample in, named views out. Each says which views it makes in `views`."""

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
    """What the training set asks of an augmentation.

    `views` names the images it makes; calling it gives exactly those, (H, W, 3) uint8 RGB, as a pure function of
    the sample and the generator's state. What the views must share (the flip) is drawn once, before they part.
    """

    views: ClassVar[tuple[str, ...]]

    def preprocessing(self, view: str, source: Preprocessing) -> Preprocessing:
        """What a view's images are (size, template), made from images that are `source`."""

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
