"""A test set seen through an augmentation: masked, misaligned or cropped faces, the same ones at every reading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from kdface.datasets.checks import bytes_of
from kdface.errors import UserError, nearest
from kdface.faces import FaceSet, Preprocessing, Sample
from kdface.randomness import generator


class Seen:
    """Every image of a set as one view of an augmentation, drawn from (seed, key): fixed once and for all.

    Args:
        dataset: the faces.
        augmentation: what they are seen through.
        view: which of its views is shown.
        seed: of the draws; not the run's, so that all runs are tested on the same images.
    """

    def __init__(self, dataset: FaceSet, augmentation: Any, view: str, seed: Annotated[int, Ge(0)] = 0) -> None:
        if view not in augmentation.views:
            raise UserError(
                f"view = {view!r}, and {type(augmentation).__name__} makes no such view.",
                expected=f"one of {', '.join(augmentation.views)}",
                nearest=nearest(view, augmentation.views),
            )
        self.dataset = dataset
        self.augmentation = augmentation
        self.view = view
        self.seed = seed
        self.preprocessing: Preprocessing = augmentation.preprocessing(view, dataset.preprocessing)

    @property
    def name(self) -> str:
        return f"{self.dataset.name}:{self.view}"

    @property
    def people(self) -> Sequence[str]:
        return self.dataset.people

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.dataset.labels

    @property
    def keys(self) -> Sequence[str]:
        return self.dataset.keys

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        rng = generator(self.seed, "seen", 0, sample.key)
        return Sample(self.augmentation(sample, rng)[self.view], sample.label, sample.key)

    def raw_bytes(self, index: int) -> bytes:
        """Of the underlying image: what is made of it depends on these bytes and on the configuration."""
        return bytes_of(self.dataset, index)
