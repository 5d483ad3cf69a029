"""Sets of faces derived from another one: the same people and keys, other images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.checks import bytes_of, check
from kdface.faces import FaceSet, Sample


class Derived:
    """Base class that delegates to the underlying set; subclasses define `preprocessing` and the images.

    `alters` describes how image content is changed; empty if it is not.
    """

    alters: ClassVar[str] = ""

    def __init__(self, dataset: FaceSet) -> None:
        self.dataset = dataset

    @property
    def change(self) -> dict[str, object] | None:
        """What tells apart two sets of this class made of the same images, in values that JSON can hold; empty if it
        shows them as they are, null if nothing tells."""
        return None

    @property
    def name(self) -> str:
        """Name of the underlying set."""
        return self.dataset.name

    @property
    def terms(self) -> str:
        """Terms of use of the underlying set."""
        return str(getattr(self.dataset, "terms", ""))

    @property
    def passed_over(self) -> Sequence[str]:
        """Files ignored by the underlying set."""
        return tuple(getattr(self.dataset, "passed_over", ()))

    @property
    def people(self) -> Sequence[str]:
        """People of the underlying set, by label."""
        return self.dataset.people

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) int64, labels of the underlying set."""
        return self.dataset.labels

    @property
    def keys(self) -> Sequence[str]:
        """Keys of the underlying set."""
        return self.dataset.keys

    def __len__(self) -> int:
        return len(self.dataset)

    def check(self, index: int) -> None:
        """Raise `DataError` if the underlying image is known to be broken without decoding it."""
        check(self.dataset, index)

    def raw_bytes(self, index: int) -> bytes:
        """Bytes of the underlying image; together with the configuration they determine the derived one."""
        return bytes_of(self.dataset, index)


def altered(faces: FaceSet) -> str:
    """How the images of a set differ from those stored under its keys; empty if they do not."""
    inner: object = faces
    while inner is not None:
        if change := getattr(inner, "alters", ""):
            return str(change)
        inner = getattr(inner, "dataset", None)
    return ""


def changes(faces: FaceSet) -> list[list[object]] | None:
    """[class, `change`] of each set that a set is made of and that shows other images than the one beneath, from the
    outermost; null if one of them cannot tell what it changes."""
    found: list[list[object]] = []
    inner: object = faces
    while isinstance(beneath := getattr(inner, "dataset", None), FaceSet):
        change: dict[str, object] | None = getattr(inner, "change", None)
        if change is None:
            return None
        if change:
            found.append([f"{type(inner).__module__}.{type(inner).__qualname__}", change])
        inner = beneath
    return found


class Rows(Derived):
    """Selected images of a set, in the order of `rows`; people keep their labels, even without images."""

    def __init__(self, dataset: FaceSet, rows: NDArray[np.int64]) -> None:
        super().__init__(dataset)
        self.preprocessing = dataset.preprocessing
        self._rows = rows
        self._labels: NDArray[np.int64] = np.asarray(dataset.labels)[rows].astype(np.int64)
        self._keys = [dataset.keys[row] for row in rows.tolist()]

    @property
    def change(self) -> dict[str, object] | None:
        """Nothing: the images are those beneath."""
        return None if self.alters else {}

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) int64, of the selected rows."""
        return self._labels

    @property
    def keys(self) -> Sequence[str]:
        """Keys of the selected rows."""
        return self._keys

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self._rows[index])]

    def check(self, index: int) -> None:
        """Check a selected image. Raises `DataError` if it is broken."""
        super().check(int(self._rows[index]))

    def raw_bytes(self, index: int) -> bytes:
        """Bytes of a selected image."""
        return super().raw_bytes(int(self._rows[index]))
