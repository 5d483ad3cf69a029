"""IJB-B and IJB-C in the layout of InsightFace's release: loose crops, landmarks, templates, comparison lists."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.folders import missing
from kdface.datasets.images import Size, decode, read_bytes, require_whole
from kdface.errors import DataError, UserError
from kdface.faces import Preprocessing, Sample, similarity, template_points, warped

Numbers = NDArray[np.int64]


class IJB:
    """The faces of IJB-B or IJB-C, aligned by five landmarks when read, and their templates.

        ROOT/loose_crop/1.jpg, 2.jpg, ...
        ROOT/meta/RELEASE_name_5pts_score.txt      file, x and y of five points in its pixels, the detector's score
        ROOT/meta/RELEASE_face_tid_mid.txt         file, template, medium: the same files in the same order
        ROOT/meta/RELEASE_template_pair_label.txt  template, template, 1 if they show one person, else 0
        ROOT/meta/RELEASE_1N_gallery_*.csv         TEMPLATE_ID,SUBJECT_ID,...; two files, one per gallery
        ROOT/meta/RELEASE_1N_probe_mixed.csv       the same for all probes

    A template is a set of images of one person, a medium the photograph or video they are from. Keys are file names. A
    face's person is its template's subject according to the 1:N lists; templates in none of them count as separate
    people.

    Args:
        root: the folder that contains `loose_crop` and `meta`.
        release: prefix of the list names.
        size: (height, width) of the aligned crop in pixels.
        name: name of the dataset in reports; by default that of the release.
        terms: licence or terms of use, shown in the dataset's card.

    Attributes:
        template, medium: (faces,) numbers.
        detector_score: (faces,) detector confidence.
        pairs: (pairs, 2) templates, int32; `same`: (pairs,) whether they show one person.
        galleries: the templates of each gallery; `probes`: those searched in them.
        subject: template -> person.

    Raises:
        UserError: one of the files does not exist.
        DataError: a list cannot be read, or lists are inconsistent; on access, if an image is unusable.
    """

    name: str
    preprocessing: Preprocessing
    people: Sequence[str]
    labels: Numbers
    keys: Sequence[str]
    template: Numbers
    medium: Numbers

    def __init__(
        self,
        root: str | Path,
        release: Literal["ijbb", "ijbc"],
        size: Size = (112, 112),
        name: str | None = None,
        terms: str = "",
    ) -> None:
        self.root = Path(root)
        self.name = name or release
        self.terms = terms
        self.preprocessing = Preprocessing(size=(size[0], size[1]))
        if not (self.root / "loose_crop").is_dir():
            raise missing(self.root / "loose_crop", "the faces of IJB, 1.jpg and so on")
        meta = self.root / "meta"
        detected, grouped = meta / f"{release}_name_5pts_score.txt", meta / f"{release}_face_tid_mid.txt"
        self.keys = _table(detected, (0,), str)[:, 0].tolist()
        if self.keys != (listed := _table(grouped, (0,), str)[:, 0].tolist()):
            raise DataError(
                f"{detected} names {len(self.keys)} files, {grouped.name} {len(listed)}, and they are not the same in "
                "the same order.",
                fix="use lists from one release",
            )
        if len(set(self.keys)) < len(self.keys):
            raise DataError(f"{grouped}: a file is listed twice.", expected="each face once")
        numbers = _table(detected, range(1, 12), np.float64)
        self._points: NDArray[np.float32] = numbers[:, :10].astype(np.float32).reshape(-1, 5, 2)
        self.detector_score: NDArray[np.float64] = numbers[:, 10]
        if not (np.isfinite(self.detector_score) & (self.detector_score > 0)).all():
            raise DataError(f"{detected}: a detector score is not positive.", expected="a positive number per face")
        self.template, self.medium = _table(grouped, (1, 2), np.int64).T
        _require_numbers(grouped, self.template)
        self.subject: dict[int, str] = {}
        self.galleries = tuple(self._templates(file) for file in _two(meta, f"{release}_1N_gallery_*.csv"))
        self.probes = self._templates(meta / f"{release}_1N_probe_mixed.csv")
        self.pairs, self.same = self._compared(meta / f"{release}_template_pair_label.txt")
        compared = (self.pairs.ravel(), *self.galleries, self.probes)
        unknown = np.unique(np.concatenate([templates[~np.isin(templates, self.template)] for templates in compared]))
        if len(unknown):
            raise DataError(
                f"{meta}: {len(unknown)} compared templates have no face, the first one {unknown[0]}.",
                expected=f"templates of {grouped.name}",
            )
        digest = hashlib.sha256()
        for column in (*compared, self.same):
            digest.update(np.ascontiguousarray(column).tobytes())
        self._lists = digest.digest()
        names = [self.subject.get(template, f"template {template}") for template in self.template.tolist()]
        self.people = sorted(set(names))
        number = {person: label for label, person in enumerate(self.people)}
        self.labels = np.array([number[name] for name in names], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        path, points, size = self._path(index), self._points[index], self.preprocessing.size
        image = decode(read_bytes(path), str(path))
        try:
            matrix = similarity(points, template_points(size))
        except ValueError as error:
            raise DataError(f"{path}: {error}.", expected="five points in the pixels of the crop") from None
        moved = (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        return Sample(warped(image, matrix, size), int(self.labels[index]), self.keys[index], moved)

    def raw_bytes(self, index: int) -> bytes:
        """The bytes of the image file, its landmarks and score, template and medium, and a digest of the lists."""
        points: bytes = np.append(self._points[index], self.detector_score[index]).astype("<f8").tobytes()
        numbers: bytes = np.array([self.template[index], self.medium[index]], dtype="<i8").tobytes()
        return read_bytes(self._path(index)) + points + numbers + self._lists

    def check(self, index: int) -> None:
        """Raise `DataError` if the file is missing or truncated, without decoding it."""
        require_whole(read_bytes(self._path(index)), str(self._path(index)))

    def _path(self, index: int) -> Path:
        return self.root / "loose_crop" / self.keys[index]

    def _compared(self, path: Path) -> tuple[Numbers, NDArray[np.bool_]]:
        """The pairs in the 1:1 list, and whether each shows one person."""
        listed = _table(path, range(3), np.int64)
        _require_numbers(path, listed[:, :2])
        pairs, same = listed[:, :2].astype(np.int32), listed[:, 2] == 1
        if not (same | (listed[:, 2] == 0)).all():
            raise DataError(f"{path}: a label is neither 0 nor 1.", expected="template, template, 0 or 1")
        number = {person: place for place, person in enumerate(dict.fromkeys(self.subject.values()))}
        known = np.array(sorted(self.subject), dtype=np.int32)
        person = np.array([number[self.subject[template]] for template in known.tolist()])
        place = np.searchsorted(known, pairs).clip(max=len(known) - 1)
        left, right = np.where(known[place] == pairs, person[place], -1).T
        wrong = np.flatnonzero((left >= 0) & (right >= 0) & ((left == right) != same))
        if len(wrong):
            one, two = pairs[wrong[0]].tolist()
            raise DataError(
                f"{path}: {len(wrong)} labels contradict the 1:N lists, the first one for templates {one} and "
                f"{two}, subjects {self.subject[one]} and {self.subject[two]}.",
                fix="use lists from one release",
            )
        return pairs, same

    def _templates(self, path: Path) -> Numbers:
        """The unique templates of a 1:N list in order; their subjects are stored in `subject`."""
        rows = _table(path, (0, 1), np.int64, delimiter=",", skiprows=1)
        _require_numbers(path, rows[:, 0])
        for template, subject in rows.tolist():
            if self.subject.setdefault(template, str(subject)) != str(subject):
                raise DataError(f"{path}: template {template} shows {subject}, and {self.subject[template]} elsewhere.")
        return np.array(list(dict.fromkeys(rows[:, 0].tolist())), dtype=np.int64)


def _require_numbers(path: Path, templates: Numbers) -> None:
    """Raise `DataError` unless template numbers are from 0 to 2^31 - 1: pairs are stored in 32 bits."""
    if wrong := templates[(templates < 0) | (templates >= 1 << 31)].tolist():
        raise DataError(f"{path}: {wrong[0]} is not the number of a template.", expected=f"0 to {(1 << 31) - 1}")


def _two(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if len(found) != 2:
        names = ", ".join(path.name for path in found) or "nothing"
        raise UserError(f"{folder}: {pattern} matches {names}.", expected="the lists of the two galleries")
    return found


def _table(path: Path, columns: Sequence[int], dtype: Any, delimiter: str | None = None, skiprows: int = 0) -> Any:
    """Columns of a list, (rows, columns). Raises if it is missing, unreadable or empty."""
    if not path.is_file():
        raise missing(path, "a list of IJB's release, next to the folder loose_crop")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file, which is reported below
            rows = np.loadtxt(path, dtype, None, delimiter, skiprows=skiprows, usecols=list(columns), ndmin=2)
    except (ValueError, OSError, OverflowError):
        raise _unreadable(path, columns, dtype, delimiter, skiprows) from None
    if not len(rows):
        raise DataError(f"{path}: the list is empty.", fix="download the lists again from their publisher")
    return rows


def _unreadable(path: Path, columns: Sequence[int], dtype: Any, delimiter: str | None, skiprows: int) -> DataError:
    """The error for a malformed list, with the first line that does not parse."""
    fix = "download the lists again from their publisher"
    lines = read_bytes(path).decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines[skiprows:], 1 + skiprows):
        fields = line.split(delimiter)
        try:
            [np.dtype(dtype).type(fields[column]) for column in columns if line.strip()]
        except (ValueError, IndexError, OverflowError):
            return DataError(f"{path}, line {number}: {line[:80]!r} cannot be read.", fix=fix)
    return DataError(f"{path}: the list cannot be read.", fix=fix)
