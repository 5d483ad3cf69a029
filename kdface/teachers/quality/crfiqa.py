"""Certainty ratio: Boutros et al., "CR-FIQA" (CVPR 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.faces import FaceSet
from kdface.precision import wide
from kdface.teachers.frozen import Teacher
from kdface.teachers.quality.mates import require_mates, rows_of_people
from kdface.teachers.quality.source import Options, unit_embeddings

EPS = 1e-9  # of the paper
_BLOCK = 1 << 24  # cosines in one block of work: 128 MiB
_SURE = 0.75  # minimum share of people closer to their own class than to the average one


@dataclass(frozen=True)
class CRFIQA(Options):
    """q = CCS / (NNCCS + 1 + 1e-9). One forward pass per image.

    CCS is the cosine to the centre of the image's person, NNCCS the largest to any other centre. This is the paper's
    form. The released code omits the + 1, and divides by nearly zero if all other centres are more than 90 degrees
    away.

    A centre from the data is the direction of the mean of the person's unit embeddings. It includes the image itself,
    which raises its CCS, more so the fewer images the person has.

    Attributes:
        centres: "data": see above; any network, any people. "classifier": the class weights from the network's
            training, for the people it was trained on.

    Raises:
        DataError: centres="data", and a person has only one image (which would be its own centre), or there is only
            one person.
        UserError: centres="classifier", and the teacher has no classifier, or its classes are not these people.
    """

    centres: Literal["data", "classifier"] = "data"

    @property
    def needs_mates(self) -> bool:
        """Whether it needs a second image of each person."""
        return self.centres == "data"

    @property
    def asks_head(self) -> bool:
        """Whether scores also depend on the teacher's head."""
        return self.centres == "classifier"

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        if self.centres == "classifier":
            centres = _class_weights(teacher, faces)
            owner = np.asarray(faces.labels)
            unit = unit_embeddings(teacher, faces)
        else:
            people = rows_of_people(faces)
            require_mates(people, faces, "CRFIQA", others=True)
            unit = unit_embeddings(teacher, faces)
            centres = np.stack([unit[rows].astype(np.float64).mean(0) for rows in people])
            owner = np.empty(len(unit), dtype=np.int64)
            for person, rows in enumerate(people):
                owner[rows] = person
        centres /= np.linalg.norm(centres, axis=1, keepdims=True).clip(np.finfo(np.float64).tiny)
        found, closer = np.empty(len(unit)), np.empty(len(unit))
        step = max(1, _BLOCK // len(centres))
        for start in range(0, len(unit), step):
            rows = np.arange(start, min(start + step, len(unit)))
            cosine = np.clip(unit[rows].astype(np.float64) @ centres.T, -1.0, 1.0)
            own = cosine[np.arange(len(rows)), owner[rows]]
            closer[rows] = own - cosine.mean(1)
            cosine[np.arange(len(rows)), owner[rows]] = -np.inf
            found[rows] = own / (cosine.max(1) + 1.0 + EPS)
        if self.centres == "classifier":
            _require_own_classes(closer, owner, faces)
        return found


def _class_weights(teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
    """(C, D) weights of the classifier that a network was trained with, one class for each person of the set."""
    weight = getattr(teacher.head, "weight", None)
    if not isinstance(weight, torch.Tensor):
        raise UserError(
            "CRFIQA with centres=classifier needs the class weights of the teacher's training, but this teacher has "
            "none.",
            expected="a run with a head, trained on the people of the dataset",
            fix="teacher.quality.centres=data",
        )
    if weight.shape != (len(faces.people), teacher.embedding_size):
        raise UserError(
            f"CRFIQA with centres=classifier: the teacher was trained on {weight.shape[0]} classes of "
            f"{weight.shape[1]} components, but {faces.name} has {len(faces.people)} people with embeddings of "
            f"{teacher.embedding_size}.",
            expected="a teacher trained on this very dataset",
            fix="teacher.quality.centres=data",
        )
    return wide(weight.detach()).cpu().numpy().astype(np.float64)


def _require_own_classes(closer: NDArray[np.float64], owner: NDArray[np.int64], faces: FaceSet) -> None:
    """Check that classes are these people, beyond their number: half of the people would be closer to a wrong class
    than to the average one."""
    images = np.bincount(owner)
    of_people = np.bincount(owner, closer)[images > 0] > 0
    if of_people.mean() < _SURE:
        raise UserError(
            f"CRFIQA with centres=classifier: {int((~of_people).sum())} of the {len(of_people)} people of "
            f"{faces.name} lie no closer to their own class of the teacher's classifier than to its others.",
            expected="a teacher trained on this very dataset, to the end",
            fix="teacher.quality.centres=data",
        )
