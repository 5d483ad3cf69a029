"""Raw photographs with a landmark file, aligned when read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.folders import scan
from kdface.datasets.images import Size, decode, read_bytes, require_whole
from kdface.datasets.landmarks import Landmarks, read_landmarks
from kdface.datasets.names import matched
from kdface.errors import DataError, UserError, nearest
from kdface.faces import Image, Points, Preprocessing, RawSample, Sample, similarity, template_points, warped


class RawFolder:
    """Photographs `root/person/file.jpg`, aligned by five landmarks to the template at any size.

    The set contains every image in the folder and every row of the landmark file, whose names may differ in suffix,
    leading zeros of a number and Unicode form. One without the other raises an error on access that names file and
    line, so that `kdface.datasets.checks.verify` can list them all. Keys are "person/file.jpg", with people and files
    sorted by name. A sample's landmarks are the row's points after alignment, hence near the template's points but not
    equal to them.

    Args:
        root: the folder that contains the people's folders.
        landmarks: CSV file, see `kdface.datasets.landmarks.read_landmarks`.
        size: (height, width) of the aligned crop in pixels.
        name: name of the dataset in reports; by default the name of the folder.
        keys: use only these images.
        terms: licence or terms of use, shown in the dataset's card.
        keep_raw: include the photograph in each sample, for augmentations that realign it (misalignment).

    Raises:
        UserError: the folder, the landmark file or one of the keys does not exist.
        DataError: the landmark file cannot be read; on access, if an image or row is unusable.
    """

    name: str
    preprocessing: Preprocessing
    people: Sequence[str]
    labels: NDArray[np.int64]
    keys: Sequence[str]

    def __init__(
        self,
        root: str | Path,
        landmarks: str | Path,
        size: Size = (112, 112),
        name: str | None = None,
        keys: Sequence[str] | None = None,
        terms: str = "",
        keep_raw: bool = False,
    ) -> None:
        self.keep_raw = keep_raw
        self.root = Path(root)
        self.name = name or self.root.name
        self.terms = terms
        self.preprocessing = Preprocessing(size=(size[0], size[1]))
        files, self.passed_over = scan(self.root)
        self._csv = Path(landmarks)
        rows = read_landmarks(self._csv)
        images = {f"{person}/{file}" for person, names in files.items() for file in names}
        self._rows = self._by_file(rows, images)
        there = images | self._rows.keys()
        wanted = there if keys is None else set(matched(keys, there).values())
        if not wanted:
            raise UserError(f"{self.root}: keys is empty, so no image is left.", expected="person/file.jpg")
        for key in sorted(wanted - there):
            raise UserError(
                f"Neither {self.root} nor {self._csv} has {key!r}.",
                expected="person/file.jpg",
                nearest=nearest(key, there),
            )
        self.keys = sorted(wanted, key=lambda key: key.split("/"))
        names = [key.split("/")[0] for key in self.keys]
        self.people = sorted(set(names))
        number = {person: label for label, person in enumerate(self.people)}
        self.labels = np.array([number[name] for name in names], dtype=np.int64)

    def _by_file(self, rows: dict[str, Landmarks], images: set[str]) -> dict[str, Landmarks]:
        """The landmark rows by image file name, which may differ in suffix, zeros and Unicode form."""
        names = matched(rows, images)
        found: dict[str, Landmarks] = {}
        for key, row in rows.items():
            if names[key] in found:
                raise DataError(f"{row.source}: a second row for {names[key]}.")
            found[names[key]] = row
        return found

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        image, points = self.raw(index)
        size = self.preprocessing.size
        matrix = similarity(points, template_points(size))
        moved = (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        crop, label, key = warped(image, matrix, size), int(self.labels[index]), self.keys[index]
        if self.keep_raw:
            return RawSample(crop, label, key, moved, raw=image, raw_landmarks=points)
        return Sample(crop, label, key, moved)

    def raw(self, index: int) -> tuple[Image, Points]:
        """The photograph (height, width, 3) as stored, and its five landmarks (5, 2) in its pixels."""
        path, row = self._found(index)
        image = decode(read_bytes(path), str(path))
        return image, row.within(*image.shape[:2])

    def check(self, index: int) -> None:
        """Raise `DataError` if file or landmarks are missing or the file is truncated, without decoding it."""
        path, row = self._found(index)
        require_whole(read_bytes(path), str(path))
        row.require_usable()

    def _found(self, index: int) -> tuple[Path, Landmarks]:
        key = self.keys[index]
        path = self.root / key
        row = self._rows.get(key)
        if row is None:
            raise DataError(f"{path}: {self._csv} has no landmark row for it.", expected=f"a row {key},...")
        if not path.is_file():
            raise DataError(f"{row.source}: the image {path} does not exist.")
        return path, row

    def raw_bytes(self, index: int) -> bytes:
        """The bytes of the image file, then those of its landmarks (5 x 2 float32)."""
        key = self.keys[index]
        points = self._rows[key].points.astype("<f4").tobytes() if key in self._rows else b""
        return read_bytes(self.root / key) + points
