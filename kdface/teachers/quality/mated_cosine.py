"""The cosine to the person's other images, which PCNet learns to predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kdface.faces import FaceSet
from kdface.teachers.frozen import Teacher
from kdface.teachers.quality.mates import mated_cosine, require_mates, rows_of_people
from kdface.teachers.quality.source import Options, unit_embeddings


@dataclass(frozen=True)
class MatedCosine(Options):
    """q_i = mean over the other images j of the same person of cos(f_i, f_j). One forward pass per image.

    The optimum of regressing mated cosines on one confidence per image, as in LightQNet's authors' release of PCNet
    (Xie et al., "Inducing Predictive Uncertainty Estimation for Face Recognition", BMVC 2020).

    Raises:
        DataError: a person has only one image.
    """

    needs_mates: ClassVar[bool] = True  # a second image of each person

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        people = rows_of_people(faces)
        require_mates(people, faces, "MatedCosine", others=False)
        return mated_cosine(unit_embeddings(teacher, faces), people)
