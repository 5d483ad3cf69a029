"""Certainty ratio: Boutros et al., "CR-FIQA" (CVPR 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from kdface.faces import FaceSet
from kdface.teachers.quality.people import require_mates, rows_of_people
from kdface.teachers.quality.source import Options, unit_embeddings

if TYPE_CHECKING:
    from kdface.teachers.frozen import Teacher

EPS = 1e-9  # of the paper
_BLOCK = 1 << 24  # cosines in one block of work: 128 MiB


@dataclass(frozen=True)
class CRFIQA(Options):
    """q = CCS / (NNCCS + 1 + 1e-9), with class centres from the data. One forward pass an image.

    CCS is the cosine to the centre of the image's own person, NNCCS the largest to any other centre; a centre is the
    direction of the mean of the person's unit embeddings. This is the paper's form. The released code leaves out the
    + 1, and divides by nearly zero where all other centres lie more than 90 degrees away.

    An image is a part of its own centre, which lifts its CCS the more the fewer images the person has.

    Raises:
        DataError: a person has one image only (which would be its own centre), or there is one person.
    """

    needs_mates: ClassVar[bool] = True  # of each image, another one of the same person

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        people = rows_of_people(faces)
        require_mates(people, faces, "CRFIQA", others=True)
        unit = unit_embeddings(teacher, faces)
        centres = np.stack([unit[rows].astype(np.float64).mean(0) for rows in people])
        centres /= np.linalg.norm(centres, axis=1, keepdims=True).clip(np.finfo(np.float64).tiny)
        owner = np.empty(len(unit), dtype=np.intp)
        for person, rows in enumerate(people):
            owner[rows] = person
        found = np.empty(len(unit))
        step = max(1, _BLOCK // len(centres))
        for start in range(0, len(unit), step):
            rows = np.arange(start, min(start + step, len(unit)))
            cosine = np.clip(unit[rows].astype(np.float64) @ centres.T, -1.0, 1.0)
            own = cosine[np.arange(len(rows)), owner[rows]]
            cosine[np.arange(len(rows)), owner[rows]] = -np.inf
            found[rows] = own / (cosine.max(1) + 1.0 + EPS)
        return found
