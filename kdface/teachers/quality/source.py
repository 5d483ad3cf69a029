"""Base class of quality sources, and batched access to images and embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import ClassVar, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdface.errors import UserError
from kdface.faces import FaceSet
from kdface.precision import wide
from kdface.progress import track
from kdface.signature import fitted
from kdface.teachers.frozen import Teacher

_BATCH = 64  # images in one forward pass


@dataclass(frozen=True)
class Options:
    """Base class of the sources: validates fields against their annotations.

    `needs_network`: whether a source runs the network on modified images, so that embeddings do not suffice.

    Raises:
        ValueError: an option is invalid; names the class, the option and the expected value.
    """

    needs_network: ClassVar[bool] = False

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):
            fitted(self, field.name, hints[field.name], getattr(self, field.name), strict=True)


def batches(
    teacher: Teacher, faces: FaceSet, what: str, size: int = _BATCH
) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Iterate over the set in order: (rows (n,), images (n, H, W, 3) uint8 on the network's device), with progress.

    Raises:
        UserError: the crops have another size or template than the network's.
        DataError: an image cannot be read.
    """
    teacher.require_sees(faces.preprocessing, faces.name)
    parameter = next(teacher.network.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    for start in track(range(0, len(faces), size), what, total=len(faces), unit=size):
        rows = np.arange(start, min(start + size, len(faces)))
        yield rows, torch.from_numpy(np.stack([faces[int(row)].image for row in rows])).to(device)


# (teacher, faces) -> its rows, and the two themselves, kept alive so that their ids stay valid.
_Known = dict[tuple[int, int], tuple[NDArray[np.float32], "Teacher", FaceSet]]
_known: ContextVar[_Known | None] = ContextVar("known", default=None)


@contextmanager
def embedding_once() -> Iterator[None]:
    """Context in which `unit_embeddings` embeds a set by a teacher only once."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def unit_embeddings(teacher: Teacher, faces: FaceSet) -> NDArray[np.float32]:
    """(N, D) embeddings of the whole set, each divided by its norm.

    Raises:
        UserError: an embedding is zero or not finite, and thus has no direction.
    """
    known = _known.get()
    if known is None:
        return _embedded(teacher, faces)
    if (id(teacher), id(faces)) not in known:
        rows = _embedded(teacher, faces)
        rows.flags.writeable = False  # shared by callers
        known[id(teacher), id(faces)] = (rows, teacher, faces)
    return known[id(teacher), id(faces)][0]


def _embedded(teacher: Teacher, faces: FaceSet) -> NDArray[np.float32]:
    parts = [
        wide(teacher.embed_view(images, [faces.keys[row] for row in rows.tolist()])).cpu().numpy()
        for rows, images in batches(teacher, faces, "embedding")
    ]
    found = np.concatenate(parts).astype(np.float64, copy=False)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    bad = ~(np.isfinite(norms) & (norms > 0)).ravel()
    if bad.any():
        raise UserError(
            f"{bad.sum()} of {len(found)} embeddings of {faces.name} are zero or not finite, the first that of "
            f"{faces.keys[int(bad.argmax())]}.",
            origin=teacher.origin,
            fix="use another teacher: the training of this one has probably diverged",
        )
    return np.asarray(found / norms, dtype=np.float32)
