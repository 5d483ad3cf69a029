"""A set of faces without its broken images: what training sees of it where it leaves these out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.checks import bytes_of, check
from kdface.datasets.derived import Derived
from kdface.errors import DataError
from kdface.faces import FaceSet, Sample
from kdface.progress import track

log = logging.getLogger("kdface")


class Readable(Derived):
    """The images of a set that can be read, in its order, with its people. Reads every image once to know them.

    Raises:
        DataError: there is none.
    """

    def __init__(self, dataset: FaceSet) -> None:
        super().__init__(dataset)
        self.preprocessing = dataset.preprocessing
        broken: list[DataError] = []
        rows: list[int] = []
        for row in track(range(len(dataset)), f"looking for broken images in {dataset.name}", total=len(dataset)):
            try:
                dataset[row]
            except DataError as error:
                broken.append(error)
            else:
                rows.append(row)
        if not rows:
            raise broken[0]
        if broken:
            log.warning(
                "%s: %d of %d images are broken and left out, the first one: %s",
                dataset.name,
                len(broken),
                len(dataset),
                broken[0].problem,
            )
        self._rows = np.array(rows)
        self._labels: NDArray[np.int64] = np.asarray(dataset.labels)[self._rows]
        self._keys = [dataset.keys[row] for row in rows]

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._labels

    @property
    def keys(self) -> Sequence[str]:
        return self._keys

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self._rows[index])]

    def check(self, index: int) -> None:
        check(self.dataset, int(self._rows[index]))

    def raw_bytes(self, index: int) -> bytes:
        return bytes_of(self.dataset, int(self._rows[index]))
