"""Random access to the records of an indexed RecordIO file (.rec and .idx), as written by MXNet."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kdface.datasets.images import read_bytes
from kdface.errors import DataError
from kdface.stored import whole_number

# A record is: magic, a word, data, zeros up to a multiple of 4. The word holds the fragment flag in its upper
# 3 bits and the length of the data in its lower 29 (dmlc-core, recordio.h).
MAGIC = b"\x0a\x23\xd7\xce"  # 0xCED7230A, little-endian
_LENGTH_BITS = 29
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)

_IMAGE_HEADER = struct.Struct("<IfQQ")  # number of label values, label, id, second id
_LARGEST = 1 << 48  # of an index or offset
_HEAD = 64  # bytes that hold the header of nearly every record: 8 + 24 + up to 8 label values


@dataclass(frozen=True)
class Entry:
    """The header of an image record: its label values, and whether an image follows."""

    values: tuple[float, ...]
    has_image: bool


class RecordFile:
    """Reads records by index.

    `pread` does not use the shared file offset, so forked processes do not interfere; a copy sent to another
    process reopens the file. Not available on Windows, which has no `pread`.

    Args:
        rec: the file of records.
        idx: text, one line `index<TAB>byte offset of the record` each.

    Raises:
        DataError: the index cannot be read; on access, if a record is unusable.
    """

    def __init__(self, rec: Path, idx: Path) -> None:
        self.rec = rec
        self.idx = idx
        pairs = _read_index(idx)
        self.indices = pairs[:, 0]
        self._offsets = pairs[:, 1]
        self._file_size = rec.stat().st_size
        # A record extends to the next one on disk; indices are not in disk order.
        starts = np.unique(np.append(self._offsets[self._offsets < self._file_size], self._file_size))
        self._ends = starts[np.searchsorted(starts, self._offsets, side="right").clip(max=len(starts) - 1)]
        self._file: BinaryIO | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def source(self, record: int) -> str:
        """Name of the record in messages."""
        return f"{self.rec}, record {record}"

    def read(self, record: int) -> bytes:
        """The data of the record, reassembled from its fragments.

        Writers split data wherever the magic occurs at a multiple of 4, and drop those four bytes.
        """
        start, end = self._range(record)
        data = self._pread(start, end - start)
        parts: list[bytes] = []
        at = 0
        while True:
            flag, length = self._word(record, data[at : at + 8], start + at)
            if (flag in (_WHOLE, _FIRST)) != (at == 0) or flag > _LAST:
                raise DataError(
                    f"{self.source(record)}: a fragment with flag {flag} stands at byte {start + at}, out of turn.",
                    expected="flag 0 for a whole record; 1, 2, ..., 3 for its fragments",
                )
            if at + 8 + length > len(data):
                raise DataError(
                    f"{self.source(record)}: it needs {8 + length} bytes from byte {start + at} on, and there are "
                    f"{len(data) - at} to the next record or the end of the file.",
                    fix=f"the copy of {self.rec.name} is cut short, or {self.idx.name} is of another file",
                )
            parts.append(data[at + 8 : at + 8 + length])
            if flag in (_WHOLE, _LAST):
                return MAGIC.join(parts)
            at += 8 + (length + 3) // 4 * 4

    def entry(self, record: int) -> Entry:
        """The header of an image record, without reading its image if possible."""
        start, end = self._range(record)
        head = self._pread(start, min(end - start, _HEAD))
        flag, length = self._word(record, head, start)
        if flag == _WHOLE and length >= _IMAGE_HEADER.size and len(head) >= 8 + _IMAGE_HEADER.size:
            (count,) = struct.unpack_from("<I", head, 8)
            size = _IMAGE_HEADER.size + 4 * count
            if 8 + size <= len(head) and size <= length:
                values, _ = unpack(head[8:], self.source(record))
                return Entry(values, length > size)
        values, image = unpack(self.read(record), self.source(record))
        return Entry(values, bool(image))

    def _range(self, record: int) -> tuple[int, int]:
        """The byte range of the record."""
        at = int(np.searchsorted(self.indices, record))
        if at == len(self.indices) or self.indices[at] != record:
            raise DataError(f"{self.source(record)}: {self.idx} does not list it.")
        start = int(self._offsets[at])
        if start >= self._file_size:
            raise DataError(
                f"{self.source(record)}: {self.idx.name} points to byte {start}, the file ends at {self._file_size}.",
                fix=f"the copy of {self.rec.name} is cut short, or {self.idx.name} is of another file",
            )
        return start, int(self._ends[at])

    def _pread(self, start: int, length: int) -> bytes:
        try:
            if self._file is None:
                self._file = open(self.rec, "rb", buffering=0)  # noqa: SIM115 (kept open for as long as this lives)
            return os.pread(self._file.fileno(), length, start)
        except OSError as error:
            raise DataError(f"{self.rec}: cannot be read ({error.strerror}).") from error

    def _word(self, record: int, head: bytes, position: int) -> tuple[int, int]:
        """Flag and length of the fragment that begins with `head`."""
        if len(head) < 8 or head[:4] != MAGIC:
            raise DataError(
                f"{self.source(record)}: no record begins at byte {position} (found {head[:4].hex(' ') or 'the end'}).",
                expected=f"the bytes {MAGIC.hex(' ')}",
                fix=f"use the {self.idx.name} that was written with this {self.rec.name}",
            )
        word = int.from_bytes(head[4:8], "little")
        return word >> _LENGTH_BITS, word & ((1 << _LENGTH_BITS) - 1)


def unpack(data: bytes, source: str) -> tuple[tuple[float, ...], bytes]:
    """Split an image record into its label values and the encoded image.

    The header is `uint32 flag, float32 label, uint64 id, uint64 id`, little-endian; if flag is not 0, that
    many float32 values follow and replace the label. Raises `DataError` naming `source` if the data are
    truncated.
    """
    if len(data) < _IMAGE_HEADER.size:
        raise DataError(f"{source}: {len(data)} bytes cannot hold the {_IMAGE_HEADER.size} bytes of an image header.")
    count, label, _, _ = _IMAGE_HEADER.unpack_from(data)
    if not count:
        return (label,), data[_IMAGE_HEADER.size :]
    end = _IMAGE_HEADER.size + 4 * count
    if len(data) < end:
        raise DataError(f"{source}: its header announces {count} label values in {len(data)} bytes.")
    return struct.unpack_from(f"<{count}f", data, _IMAGE_HEADER.size), data[end:]


def _read_index(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """(records, 2) of index and offset, by ascending index."""
    rows: list[tuple[int, int]] = []
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        numbers = [whole_number(field, _LARGEST) for field in line.split()]
        if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
            raise DataError(
                f"{path}, line {number}: {line[:40].decode('utf-8', 'replace')!r} is not an index entry.",
                expected="index<TAB>byte offset",
            )
        rows.append((numbers[0], numbers[1]))
    if not rows:
        raise DataError(f"{path}: the index is empty.", expected="index<TAB>byte offset, one line per record")
    pairs = np.array(rows, dtype=np.int64)
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    twice = np.flatnonzero(np.diff(pairs[:, 0]) == 0)
    if len(twice):
        raise DataError(f"{path}: record {pairs[twice[0], 0]} is listed twice.")
    return pairs
