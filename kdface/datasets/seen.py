"""An augmented test set: masked, misaligned or cropped faces, identical at every reading."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from kdface.datasets.contract import read_sample
from kdface.datasets.derived import Derived
from kdface.errors import UserError, nearest
from kdface.faces import FaceSet, Preprocessing, Sample
from kdface.randomness import generator


class Seen(Derived):
    """Every image of a set as one view of an augmentation, drawn deterministically from (seed, key).

    Args:
        dataset: the faces.
        augmentation: applied to each face.
        view: which of its views to use.
        seed: of the draws; independent of the run's, so that all runs are tested on the same images.
    """

    alters: ClassVar[str] = "seen through an augmentation"

    def __init__(self, dataset: FaceSet, augmentation: Any, view: str, seed: Annotated[int, Ge(0)] = 0) -> None:
        if view not in augmentation.views:
            raise UserError(
                f"view = {view!r}, but {type(augmentation).__name__} has no such view.",
                expected=f"one of {', '.join(augmentation.views)}",
                nearest=nearest(view, augmentation.views),
            )
        super().__init__(dataset)
        self.augmentation = augmentation
        self.view = view
        self.seed = seed
        self.preprocessing: Preprocessing = augmentation.preprocessing(view, dataset.preprocessing)

    @property
    def name(self) -> str:
        """Such as `lfw:masked`."""
        return f"{self.dataset.name}:{self.view}"

    def __getitem__(self, index: int) -> Sample:
        sample = read_sample(self.dataset, index)
        rng = generator(self.seed, "seen", 0, sample.key)
        return Sample(self.augmentation(sample, rng)[self.view], sample.label, sample.key)
