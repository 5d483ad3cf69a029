"""Embeddings from a file instead of a network, to evaluate any recogniser without its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.embedding_file import EmbeddingFile
from kdface.errors import UserError
from kdface.evaluation.embed import Embedder
from kdface.faces import FaceSet


class StoredEmbeddings(Embedder):
    """Embeddings from a file, by image key.

    Compared as stored: mirror images are not available.
    """

    def __init__(self, file: EmbeddingFile) -> None:
        super().__init__(_no_network)
        self.file = file

    def __call__(self, dataset: FaceSet, keys: Sequence[str], mirror: bool = True) -> NDArray[np.float32]:
        """(len(keys), D), as stored. Raises `DataError` for keys that the file lacks, and `UserError` for a set whose
        images are not those that were embedded, such as masked ones."""
        del mirror
        self.file.require(dataset, keys)
        return self.file.look_up(keys, dataset.name)


def _no_network(images: Any, kind: Any) -> Any:
    raise UserError("embeddings from a file come without a network: they cannot embed images.")
