"""A set of faces made of another one: the same people and keys, other images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.checks import bytes_of, check
from kdface.faces import FaceSet


class Derived:
    """What such a set takes over from the one beneath; a subclass gives `preprocessing` and the images."""

    def __init__(self, dataset: FaceSet) -> None:
        self.dataset = dataset

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def terms(self) -> str:
        return str(getattr(self.dataset, "terms", ""))

    @property
    def passed_over(self) -> Sequence[str]:
        return tuple(getattr(self.dataset, "passed_over", ()))

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

    def check(self, index: int) -> None:
        """Raise `DataError` where the image beneath is known to be broken before it is decoded."""
        check(self.dataset, index)

    def raw_bytes(self, index: int) -> bytes:
        """Of the image beneath: what is made of it depends on these bytes and on the configuration."""
        return bytes_of(self.dataset, index)
