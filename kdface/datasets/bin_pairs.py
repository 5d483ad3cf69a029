"""InsightFace verification sets: one .bin file of image pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.folders import missing
from kdface.datasets.images import Size, decode, read_bytes, require_whole
from kdface.datasets.safe_pickle import load_plain
from kdface.errors import DataError
from kdface.faces import Preprocessing, Sample, template_points

_LARGEST = 8 << 30  # bytes of a set
_CONTENTS = "a pickled pair: the list of 2N encoded images, and the list of N booleans"


class BinPairs:
    """The 2N aligned crops of a verification set, and its N pairs.

    Pair i consists of images 2i and 2i+1. Keys are image numbers with seven digits. The file states whether
    a pair shows one person, but not whom, so all images belong to the single person "?".

    The file is a pickle. It is read as plain data; pickles that would run code are rejected.

    Args:
        path: the .bin file.
        size: (height, width) of the crops in pixels; nothing is resized.
        name: name of the dataset in reports; by default the name of the file without its suffix.
        terms: licence or terms of use, shown in the dataset's card.

    Attributes:
        left, right: keys of the first and second image of each pair.
        same: (N,) whether the pair shows one person.

    Raises:
        UserError: the file does not exist.
        DataError: the file has another format; on access, if an image is unusable.
    """

    name: str
    preprocessing: Preprocessing
    people: Sequence[str]
    labels: NDArray[np.int64]
    keys: Sequence[str]

    def __init__(self, path: str | Path, size: Size = (112, 112), name: str | None = None, terms: str = "") -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise missing(self.path, "an InsightFace verification set such as lfw.bin")
        self.name = name or self.path.stem
        self.terms = terms
        self.preprocessing = Preprocessing(size=(size[0], size[1]))
        try:
            contents = load_plain(read_bytes(self.path, _LARGEST))
        except ValueError as error:
            raise DataError(
                f"{self.path}: this pickle is not read: {error}.",
                expected=_CONTENTS,
                fix="download the file again from its publisher",
            ) from error
        if not (isinstance(contents, list | tuple) and len(contents) == 2 and isinstance(contents[0], list | tuple)):
            raise DataError(f"{self.path}: unexpected contents of the pickle.", expected=_CONTENTS)
        self._images = [self._encoded(number, item) for number, item in enumerate(contents[0])]
        self.same = self._booleans(contents[1])
        if not len(self.same) or len(self._images) != 2 * len(self.same):
            raise DataError(
                f"{self.path}: {len(self._images)} images and {len(self.same)} pairs.",
                expected="two images per pair, and at least one pair",
            )
        self.keys = [f"{number:07d}" for number in range(len(self._images))]
        self.left, self.right = tuple(self.keys[::2]), tuple(self.keys[1::2])
        self.people = ["?"]
        self.labels = np.zeros(len(self.keys), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        size = self.preprocessing.size
        image = decode(self._images[index], self._source(index), size)
        return Sample(image, int(self.labels[index]), self.keys[index], template_points(size))

    def check(self, index: int) -> None:
        """Raise `DataError` if the image is truncated or of another size, without decoding it."""
        require_whole(self._images[index], self._source(index), self.preprocessing.size)

    def raw_bytes(self, index: int) -> bytes:
        """The encoded image, then one byte: whether its pair shows one person."""
        return self._images[index] + bytes([int(self.same[index // 2])])

    def _source(self, index: int) -> str:
        return f"{self.path}, image {self.keys[index]}"

    def _encoded(self, number: int, item: Any) -> bytes:
        if isinstance(item, np.ndarray) and item.dtype == np.uint8:  # as cv2.imencode returns it
            return item.tobytes()
        if isinstance(item, bytes):
            return item
        raise DataError(f"{self.path}, image {number:07d}: a {type(item).__name__}, not bytes.", expected=_CONTENTS)

    def _booleans(self, items: Any) -> NDArray[np.bool_]:
        flags = items.tolist() if isinstance(items, np.ndarray) else items
        if not (isinstance(flags, list | tuple) and all(flag in (0, 1) for flag in flags)):
            raise DataError(f"{self.path}: the pairs' list holds other than booleans.", expected=_CONTENTS)
        return np.array(flags, dtype=np.bool_)
