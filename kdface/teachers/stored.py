"""Embeddings from a file as a teacher, to distil any recogniser, including remote and unavailable ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kdface.datasets.embedding_file import EmbeddingFile
from kdface.errors import UserError
from kdface.faces import FaceSet, Preprocessing
from kdface.teachers.frozen import QualitySource, Teacher


class StoredTeacher(Teacher):
    """Precomputed embeddings of a recogniser, by image key.

    They belong to the original images in the dataset: unmasked if the student's view is masked, aligned if it is
    misaligned, and not mirrored even if it is mirrored.

    Attributes:
        file: the embeddings.
        fingerprint: SHA-256 of the file, and whether embeddings are centred.
    """

    def __init__(self, file: EmbeddingFile, quality: QualitySource | None = None, center: bool = False) -> None:
        # It looks at no image, so there is no preprocessing that could differ.
        super().__init__(_NoNetwork(file.rows.shape[1]), Preprocessing(), quality)
        self.file = file
        self.mean = file.rows.mean(axis=0, dtype=np.float64).astype(np.float32) if center else None
        # Labels that were computed from other embeddings are not these embeddings' labels.
        self.fingerprint = f"{file.fingerprint}{' centred' if center else ''}"
        self.device = torch.device("cpu")

    def embed(self, images: Tensor) -> Tensor:
        """Raise `UserError`: embeddings are looked up by key."""
        raise _without_network()

    def embed_view(self, images: Tensor, keys: Sequence[str]) -> Tensor:
        """(N, D), as stored or minus their mean; ignores the images.

        Raises `DataError` for keys missing from the file.
        """
        del images
        rows = self.file.look_up(keys)
        return torch.from_numpy(rows if self.mean is None else rows - self.mean).to(self.device)

    def require_sees(self, kind: Preprocessing, where: str) -> None:
        """Accept any preprocessing: images are not used."""

    def require_knows(self, faces: FaceSet) -> None:
        """Raise `DataError` for images missing from the file."""
        self.file.require(faces, faces.keys)

    def require_finite(self) -> None:
        """Checked when reading the file."""

    def to(self, device: torch.device | str) -> StoredTeacher:
        """Return itself; embeddings are returned on this device."""
        self.device = torch.device(device)
        return self


class _NoNetwork(nn.Module):
    """Placeholder for a teacher's network."""

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.embedding_size = embedding_size

    def forward(self, images: Tensor) -> Tensor:
        raise _without_network()


def from_embeddings(file: Path, quality: QualitySource | None = None, center: bool = False) -> StoredTeacher:
    """Embeddings from a file, by image key, to distil any recogniser or compare with it.

    Args:
        file: .npz or .parquet with `keys` (N,) and `embeddings` (N, D); see `kdface.datasets.embedding_file`.
        quality: source of quality labels, for methods that need them; one that needs no network.
        center: subtract the mean of all embeddings in the file. For recognisers trained by Euclidean distance, which is
            shift-invariant, while cosines are uninformative if all embeddings are on one side (dlib's: two people have
            a mean cosine of 0.85 as stored and of 0 minus the mean).

    Raises:
        UserError: the file cannot be read, or the quality source needs a network.
    """
    if getattr(quality, "needs_network", False):
        raise UserError(
            f"{type(quality).__name__} needs a network, but embeddings from a file come without one.",
            expected="a source that compares embeddings (MatedCosine, SDDFIQA, CRFIQA, EmbeddingNorm), or LabelFile",
            fix="teacher.quality={_target_:kdface.teachers.quality.MatedCosine}",
        )
    return StoredTeacher(EmbeddingFile(file), quality, center)


def _without_network() -> UserError:
    return UserError("embeddings from a file come without a network: they cannot embed images.")
