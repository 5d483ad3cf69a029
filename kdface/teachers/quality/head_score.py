"""Quality predicted by the head of the network's training: the joint form of CR-FIQA and MagFace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.faces import FaceSet
from kdface.precision import wide
from kdface.teachers.frozen import Teacher
from kdface.teachers.quality.source import Options, batches


@dataclass(frozen=True)
class HeadScore(Options):
    """q = `head.quality(f)` of the embedding f. One forward pass per image.

    For networks trained with `kdface.heads.CRFIQA` this is the predicted certainty ratio, with `kdface.heads.MagFace`
    the norm |f|_2.

    Raises:
        UserError: the teacher has no head, or its head does not predict quality.
    """

    asks_head: ClassVar[bool] = True  # scores also depend on the teacher's head

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        grade = getattr(teacher.head, "quality", None)
        if grade is None:
            has = "has no head" if teacher.head is None else f"was trained with {type(teacher.head).__name__}"
            raise UserError(
                f"HeadScore needs a teacher whose head predicts quality, but this teacher {has}.",
                expected="a run of head=crfiqa or head=magface",
                fix="teacher.run=FOLDER of such a run, or another source (kdface list teacher)",
            )
        found = np.empty(len(faces))
        with torch.no_grad():
            for rows, images in batches(teacher, faces, "quality by the head"):
                found[rows] = wide(grade(teacher.embed(images))).cpu().numpy()
        return found
