"""Embeddings in a file, by image key, from a recogniser whose weights are unavailable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.derived import altered
from kdface.datasets.folders import missing
from kdface.datasets.images import read_bytes
from kdface.datasets.names import matched
from kdface.errors import DataError, UserError, nearest
from kdface.faces import FaceSet
from kdface.stored import arrays_in

CONTENTS = "`keys` (N,), texts, and `embeddings` (N, D), numbers, in an .npz or .parquet file"
_SHOWN = 3  # keys shown in a message
_LARGEST = 8 << 30  # bytes of a file


class EmbeddingFile:
    """Embeddings by image key, such as "Name/Name_0001.jpg".

    Keys may differ from a dataset's in suffix, leading zeros of a number and Unicode form. No code in the file is
    executed.

    Args:
        path: an .npz or .parquet file with `keys` (N,), texts, and `embeddings` (N, D).

    Attributes:
        rows: (N, D) float32.
        fingerprint: SHA-256 of the file.

    Raises:
        UserError: the file does not exist, its format is not supported, or the reader for it is not installed.
        DataError: unexpected contents, duplicate keys, or non-finite numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        keys, self.rows = read_embeddings(path)
        self.fingerprint = hashlib.sha256(read_bytes(path, _LARGEST)).hexdigest()
        self._row = {key: number for number, key in enumerate(keys)}
        self._found: dict[str, int] = {}  # by dataset key; matching is too slow for every batch

    def require(self, faces: FaceSet, keys: Sequence[str]) -> None:
        """Raise `DataError` naming the keys of a set that the file lacks, and `UserError` if the set alters the
        embedded images."""
        if change := altered(faces):
            raise UserError(
                f"{self.path}: its embeddings are of the original images, but those of {faces.name} are changed "
                f"({change}).",
                expected="images as the file's recogniser saw them",
            )
        self._find(keys, faces.name)

    def look_up(self, keys: Sequence[str], name: str = "the batch") -> NDArray[np.float32]:
        """(len(keys), D), as stored. Raises `DataError` for missing keys; `name` is that of their set."""
        self._find(keys, name)
        return self.rows[[self._found[key] for key in keys]]

    def _find(self, keys: Sequence[str], name: str) -> None:
        wanted = [key for key in keys if key not in self._found]
        if not wanted:
            return
        names = matched(wanted, self._row)
        lacking = [key for key in wanted if names[key] not in self._row]
        if lacking:
            raise DataError(
                f"{self.path}: {len(lacking)} of {len(keys)} images of {name} have no embedding: "
                f"{', '.join(lacking[:_SHOWN])}{', ...' if len(lacking) > _SHOWN else ''}.",
                expected="an embedding for every requested image, by the dataset's keys",
                nearest=nearest(lacking[0], self._row),
            )
        self._found |= {key: self._row[names[key]] for key in wanted}


def read_embeddings(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Keys and (N, D) embeddings of a file; see `EmbeddingFile`."""
    if not path.is_file():
        raise missing(path, CONTENTS)
    readers = {".npz": _read_npz, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unsupported format for embeddings.", expected=CONTENTS)
    keys, rows = reader(path)
    if keys.ndim != 1 or keys.dtype.kind not in "US" or rows.dtype.kind not in "fiu" or rows.ndim != 2:
        raise DataError(
            f"{path}: keys are {keys.dtype} of shape {keys.shape}, embeddings {rows.dtype} of {rows.shape}.",
            expected=CONTENTS,
        )
    if len(keys) != len(rows) or not rows.size:
        raise DataError(f"{path}: {len(keys)} keys and {len(rows)} embeddings of {rows.shape[1]}.", expected=CONTENTS)
    names = [str(key) for key in (np.char.decode(keys, "utf-8") if keys.dtype.kind == "S" else keys).tolist()]
    if len(set(names)) < len(names):
        raise DataError(f"{path}: {len(names)} keys, {len(set(names))} different ones.", expected="each image once")
    found = rows.astype(np.float32)
    if not (finite := np.isfinite(found).all(axis=1)).all():
        raise DataError(f"{path}: the embedding of {names[int(np.argmin(finite))]} is not finite.")
    return names, found


def _read_npz(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        arrays = arrays_in(path)
        return arrays["keys"], arrays["embeddings"]
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: this is not such a file, or it is damaged: {error}.", expected=CONTENTS) from error


def _read_parquet(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """A column `keys` of strings and a column `embeddings` of lists of equal length."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise UserError(
            f"{path}: reading Parquet needs the package pyarrow.",
            fix="pip install 'kdface[parquet]', or write the arrays with numpy.savez",
        ) from None
    try:
        table = parquet.read_table(path, columns=["keys", "embeddings"])
        keys, lists = (table.column(name).combine_chunks() for name in ("keys", "embeddings"))
        sizes = set(lists.value_lengths().to_pylist()) if hasattr(lists, "value_lengths") else {lists.type.list_size}
        if len(sizes) != 1 or None in sizes:
            raise ValueError(f"embeddings of {sorted(sizes, key=str)[:_SHOWN]} numbers")
        rows = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), sizes.pop())
        return np.array(keys.to_pylist(), dtype=str), rows
    except (ValueError, TypeError, AttributeError, OSError, KeyError, ArrowException) as error:
        raise DataError(f"{path}: this is not such a file, or it is damaged.", expected=CONTENTS) from error
