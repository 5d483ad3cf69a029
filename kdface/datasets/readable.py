"""A set of faces without its broken images, as used by training if these are skipped."""

from __future__ import annotations

import logging

import numpy as np

from kdface.datasets.derived import Rows
from kdface.errors import DataError
from kdface.faces import FaceSet
from kdface.progress import track

log = logging.getLogger("kdface")


class Readable(Rows):
    """The readable images of a set, in its order, with its people. Reads every image once to find them.

    Raises:
        DataError: no image is readable.
    """

    def __init__(self, dataset: FaceSet) -> None:
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
        super().__init__(dataset, np.array(rows, dtype=np.int64))
