"""Embeddings from a file in the place of a network: any recogniser, in every protocol, without its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.folders import missing
from kdface.datasets.images import read_bytes
from kdface.datasets.names import matched
from kdface.errors import DataError, UserError, nearest
from kdface.evaluation.embed import Embedder
from kdface.faces import FaceSet
from kdface.stored import arrays_in

_LARGEST = 8 << 30  # bytes of a file
CONTENTS = "an .npz file with `keys` (N,), texts, and `embeddings` (N, D), numbers"


class StoredEmbeddings(Embedder):
    """The embeddings of a file by the keys of its images, such as "Name/Name_0001.jpg".

    What is stored is what is compared: of a mirror image nothing is known. Keys may differ from those of a dataset in
    suffix, zeros before a number and Unicode form. Nothing in the file is executed.

    Args:
        path: an .npz file with `keys` (N,), texts, and `embeddings` (N, D).

    Raises:
        UserError: the file is not there, or its format is not read.
        DataError: it holds something else; keys occur twice; a number is not finite.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(_no_network)
        self.path = path
        keys, self.rows = read_embeddings(path)
        self.row = {key: number for number, key in enumerate(keys)}
        self.fingerprint = hashlib.sha256(read_bytes(path, _LARGEST)).hexdigest()

    def __call__(self, dataset: FaceSet, keys: Sequence[str], mirror: bool = True) -> NDArray[np.float32]:
        """(len(keys), D), as stored. Raises `DataError` for keys that the file lacks."""
        del mirror
        names = matched(keys, self.row)
        lacking = [key for key in keys if names[key] not in self.row]
        if lacking:
            raise DataError(
                f"{self.path}: {len(lacking)} of {len(keys)} images of {dataset.name} have no embedding: "
                f"{', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}.",
                expected="an embedding for every image that is compared, by the dataset's keys",
                nearest=nearest(lacking[0], self.row),
            )
        return self.rows[[self.row[names[key]] for key in keys]]


def read_embeddings(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Keys and (N, D) embeddings of a file; see `StoredEmbeddings`."""
    if not path.is_file():
        raise missing(path, CONTENTS)
    if path.suffix.lower() != ".npz":
        raise UserError(f"{path}: embeddings are not read from this format.", expected=CONTENTS)
    keys, rows = _read_npz(path)
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


def _no_network(images: Any, kind: Any) -> Any:
    raise UserError("embeddings from a file come without a network: an image cannot be embedded by it.")
