"""Embeddings from a file as a teacher: any recogniser teaches, one that answers over a network or is not sold too."""

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
    """What a recogniser said once of each image, by the image's key.

    It is the embedding of the image as the dataset gives it: of the bare face where the student's is masked, of the
    aligned one where it is misaligned; of an image that is mirrored for the student too.

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
        """Raises `UserError`: an image without its key says nothing."""
        raise _without_network()

    def embed_view(self, images: Tensor, keys: Sequence[str]) -> Tensor:
        """(N, D), as stored or less their mean; the images are not looked at.

        Raises `DataError` for keys that the file lacks.
        """
        del images
        rows = self.file.look_up(keys)
        return torch.from_numpy(rows if self.mean is None else rows - self.mean).to(self.device)

    def require_sees(self, kind: Preprocessing, where: str) -> None:
        """Any kind of image: it looks at none."""

    def require_knows(self, faces: FaceSet) -> None:
        """Raises `DataError` for images that the file lacks."""
        self.file.require(faces, faces.keys)

    def require_finite(self) -> None:
        """Reading the file has seen to that."""

    def to(self, device: torch.device | str) -> StoredTeacher:
        """Itself; embeddings are handed out on this device."""
        self.device = torch.device(device)
        return self


class _NoNetwork(nn.Module):
    """Stands where a teacher has its network."""

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.embedding_size = embedding_size

    def forward(self, images: Tensor) -> Tensor:
        raise _without_network()


def from_embeddings(file: Path, quality: QualitySource | None = None, center: bool = False) -> StoredTeacher:
    """The embeddings of a file, by the keys of the images: distil any recogniser, or compare with it.

    Args:
        file: .npz or .parquet with `keys` (N,) and `embeddings` (N, D); see `kdface.datasets.embedding_file`.
        quality: where quality labels come from, for methods that ask for them; one that needs no network.
        center: subtract the mean of all embeddings of the file. For a recogniser trained by Euclidean distance, which
            a shift leaves alone, while cosines say little where all embeddings lie on one side (dlib's: two people have
            a mean cosine of 0.85 as stored and of 0 less the mean).

    Raises:
        UserError: the file cannot be read, or the source of quality asks a network.
    """
    if getattr(quality, "needs_network", False):
        raise UserError(
            f"{type(quality).__name__} asks a network about images, and embeddings of a file have none.",
            expected="a source that compares embeddings (MatedCosine, SDDFIQA, CRFIQA, EmbeddingNorm), or LabelFile",
            fix="teacher.quality={_target_:kdface.teachers.quality.MatedCosine}",
        )
    return StoredTeacher(EmbeddingFile(file), quality, center)


def _without_network() -> UserError:
    return UserError("embeddings from a file come without a network: it cannot be asked about an image.")
