"""A set of faces made of another one: the same people and keys, other images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.checks import bytes_of, check
from kdface.faces import FaceSet, Sample


class Derived:
    """What such a set takes over from the one beneath; a subclass gives `preprocessing` and the images.

    `alters` says what is done to the images that makes other ones of them; empty if they stay the same ones.
    """

    alters: ClassVar[str] = ""

    def __init__(self, dataset: FaceSet) -> None:
        self.dataset = dataset

    @property
    def name(self) -> str:
        """That of the set it is made from."""
        return self.dataset.name

    @property
    def terms(self) -> str:
        """The terms of use of the set it is made from."""
        return str(getattr(self.dataset, "terms", ""))

    @property
    def passed_over(self) -> Sequence[str]:
        """Files that the set it is made from left out."""
        return tuple(getattr(self.dataset, "passed_over", ()))

    @property
    def people(self) -> Sequence[str]:
        """Those of the set it is made from, by label."""
        return self.dataset.people

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) int64, those of the set it is made from."""
        return self.dataset.labels

    @property
    def keys(self) -> Sequence[str]:
        """Those of the set it is made from."""
        return self.dataset.keys

    def __len__(self) -> int:
        return len(self.dataset)

    def check(self, index: int) -> None:
        """Raise `DataError` if the image beneath is known to be broken before it is decoded."""
        check(self.dataset, index)

    def raw_bytes(self, index: int) -> bytes:
        """Of the image beneath: what is made of it depends on these bytes and on the configuration."""
        return bytes_of(self.dataset, index)


def altered(faces: FaceSet) -> str:
    """What makes the images of a set other ones than those that are stored under its keys; empty if nothing does."""
    inner: object = faces
    while inner is not None:
        if change := getattr(inner, "alters", ""):
            return str(change)
        inner = getattr(inner, "dataset", None)
    return ""


class Rows(Derived):
    """Some images of a set, in the order of `rows`; its people keep their numbers, those without an image too."""

    def __init__(self, dataset: FaceSet, rows: NDArray[np.int64]) -> None:
        super().__init__(dataset)
        self.preprocessing = dataset.preprocessing
        self._rows = rows
        self._labels: NDArray[np.int64] = np.asarray(dataset.labels)[rows].astype(np.int64)
        self._keys = [dataset.keys[row] for row in rows.tolist()]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) int64, of the chosen rows."""
        return self._labels

    @property
    def keys(self) -> Sequence[str]:
        """Those of the chosen rows."""
        return self._keys

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self._rows[index])]

    def check(self, index: int) -> None:
        """Check one of the chosen images. Raises `DataError` if it is broken."""
        super().check(int(self._rows[index]))

    def raw_bytes(self, index: int) -> bytes:
        """The file of one of the chosen images."""
        return super().raw_bytes(int(self._rows[index]))
