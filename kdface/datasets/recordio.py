"""InsightFace training sets: train.rec, train.idx, property."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.checks import sized
from kdface.datasets.folders import missing
from kdface.datasets.images import SizeError, decode, for_crops, read_bytes, require_whole
from kdface.datasets.record_file import RecordFile, unpack
from kdface.errors import DataError
from kdface.faces import Preprocessing, Sample, template_points
from kdface.stored import whole_number

# Labels are float32, which represents integers exactly only below 2^24: above it index ranges in the file are inexact.
_EXACT = 2**24


class RecordKeys(Sequence[str]):
    """The record numbers as eight-digit keys, created on access: millions of strings would fill the memory."""

    def __init__(self, records: NDArray[np.int64]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> RecordKeys: ...
    def __getitem__(self, index: int | slice) -> str | RecordKeys:
        if isinstance(index, slice):
            return RecordKeys(self._records[index])
        return f"{self._records[index]:08d}"


class RecordIO:
    """An InsightFace training set of aligned crops, read without MXNet.

    Record 0 gives the range of the identity records, and each of these the range of one person's images. A file
    whose record 0 is an image ("shuffled") has no identity records: all its records are images, with labels read
    from each. An image's label is its scalar label, or the first of several (face2rec2 writes [class, aligned], a
    mask-aware file 237 values). Keys are record numbers with eight digits.

    People are named after the folders in `train.lst` if it exists and has one folder per class, else by class number.

    Args:
        root: the folder of train.rec, or a .rec file; .idx, .lst and `property` are in the same folder. `property`
            contains "classes,height,width".
        name: name of the dataset in reports; by default the name of the folder.
        terms: licence or terms of use, shown in the dataset's card.

    Raises:
        UserError: a file does not exist.
        DataError: the index, `property`, header or identity records are unusable; on access, if a record is.
    """

    name: str
    preprocessing: Preprocessing
    people: Sequence[str]
    labels: NDArray[np.int64]
    keys: Sequence[str]

    def __init__(self, root: str | Path, name: str | None = None, terms: str = "") -> None:
        rec = Path(root) if Path(root).suffix == ".rec" else Path(root) / "train.rec"
        for path in (rec, rec.with_suffix(".idx"), rec.parent / "property"):
            if not path.is_file():
                raise missing(path, "an InsightFace set: train.rec, train.idx and property in one folder")
        self.name = name or rec.parent.name
        self.terms = terms
        count, size = _read_property(rec.parent / "property")
        self.preprocessing = Preprocessing(size=size)
        self.size_file = rec.parent / "property"
        self._file = RecordFile(rec, rec.with_suffix(".idx"))
        self._records, classes = _classes(self._file)
        self._classes, labels = np.unique(classes, return_inverse=True)
        self.labels = labels.astype(np.int64)
        self.keys = RecordKeys(self._records)
        if len(self._classes) != count:
            raise DataError(
                f"{rec.parent / 'property'}: it announces {count} classes, but {rec.name} has {len(self._classes)}.",
                fix="correct its first number, or use files of one set",
            )
        numbers = [str(number) for number in self._classes.tolist()]
        self.people = _folder_names(rec.with_suffix(".lst"), numbers) or numbers

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Sample:
        image, source = self._image(index)
        size = self.preprocessing.size
        with self._size_told():
            pixels = decode(image, source, size)
        return Sample(pixels, int(self.labels[index]), self.keys[index], template_points(size))

    def check(self, index: int) -> None:
        """Raise `DataError` if the record is damaged, or its image truncated or of another size, without decoding."""
        with self._size_told():
            require_whole(*self._image(index), self.preprocessing.size)

    @contextmanager
    def _size_told(self) -> Iterator[None]:
        """The set has no option for its size: it stands in a file."""
        try:
            yield
        except SizeError as error:
            assert error.size is not None
            error.fix = for_crops(sized(self, error.size))
            raise

    def _image(self, index: int) -> tuple[bytes, str]:
        """The encoded image of a record, after checking its label, and its name in messages."""
        record, label = int(self._records[index]), int(self.labels[index])
        source = self._file.source(record)
        values, image = unpack(self._file.read(record), source)
        if values[0] != self._classes[label]:
            raise DataError(
                f"{source}: its label is {values[0]:g}, and its identity record's is {self._classes[label]}."
            )
        return image, source

    def raw_bytes(self, index: int) -> bytes:
        """The data of the record: header, label and encoded image."""
        return self._file.read(int(self._records[index]))


def _read_property(path: Path) -> tuple[int, tuple[int, int]]:
    """Number of classes and (height, width); a shuffled file has more fields after these."""
    text = read_bytes(path).decode("utf-8", "replace").strip()
    numbers = [whole_number(field.strip()) or 0 for field in text.split(",")[:3]]
    if len(numbers) < 3 or not all(numbers):
        raise DataError(f"{path}: {text[:60]!r} cannot be used.", expected="classes,height,width as 85742,112,112")
    classes, height, width = numbers
    return classes, (height, width)


def _classes(file: RecordFile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The image records, and the class number of each."""
    header = file.entry(0) if file.indices[0] == 0 else None
    if header is None or header.has_image:
        return file.indices, _class_of_each(file, file.indices)
    if len(header.values) != 2:
        raise DataError(
            f"{file.source(0)}: {len(header.values)} values and no image.",
            expected="an image, or the first and last but one of the identity records",
        )
    if len(file) > _EXACT:
        images = np.array([record for record in file.indices.tolist() if file.entry(record).has_image])
        return images, _class_of_each(file, images)
    first, last = (_whole(value, file.source(0)) for value in header.values)
    if not 1 < first < last or len(file) < last:  # records 0 to `last` - 1 are all listed
        raise DataError(
            f"{file.source(0)}: identity records {first} to {last - 1} do not fit an index of {len(file)} records "
            f"that ends at {file.indices[-1]}."
        )
    classes = np.full(first, -1, dtype=np.int64)
    for identity in range(first, last):
        source = file.source(identity)
        values = file.entry(identity).values
        begin, end = (_whole(value, source) for value in values) if len(values) == 2 else (0, 0)
        if not 1 <= begin < end <= first or (classes[begin:end] >= 0).any():
            given = ", ".join(f"{value:g}" for value in values)
            raise DataError(
                f"{source}: the values {given} are not a range of images.",
                expected=f"first and last but one in 1 to {first}, shared with no other identity record",
            )
        classes[begin:end] = _whole(file.entry(begin).values[0], file.source(begin))
    records = np.arange(1, first, dtype=np.int64)
    orphans = records[classes[1:] < 0]
    if len(orphans):
        raise DataError(f"{file.source(int(orphans[0]))}: no identity record includes it.")
    return records, classes[1:]


def _class_of_each(file: RecordFile, records: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.array(
        [_whole(file.entry(record).values[0], file.source(record)) for record in records.tolist()],
        dtype=np.int64,
    )


def _whole(value: float, source: str) -> int:
    if not (0 <= value < 1 << 62 and value.is_integer()):
        raise DataError(f"{source}: label {value:g}.", expected="a class number: 0, 1, 2, ...")
    return int(value)


def _folder_names(path: Path, numbers: Sequence[str]) -> list[str]:
    """The people's names from `aligned<TAB>folder/person/file<TAB>class...` lines, or nothing if these have none."""
    if not path.is_file():
        return []
    names: dict[str, str] = {}
    for line in read_bytes(path).decode("utf-8", "replace").splitlines():
        fields = line.split("\t")
        if len(fields) < 3 or names.setdefault(fields[2], Path(fields[1]).parent.name) != Path(fields[1]).parent.name:
            return []
    found = [names[number] for number in numbers if number in names]
    return found if len(set(found)) == len(numbers) and all(found) else []
