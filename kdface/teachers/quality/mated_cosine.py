"""The cosine to the person's other images: what PCNet learns to predict."""

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
    """q_i = mean over the other images j of the same person of cos(f_i, f_j). One forward pass an image.

    The optimum of the regression of mated cosines on one confidence per image, as LightQNet's authors released PCNet
    (Xie et al., "Inducing Predictive Uncertainty Estimation for Face Recognition", BMVC 2020).

    Raises:
        DataError: a person has one image only.
    """

    needs_mates: ClassVar[bool] = True  # of each image, another one of the same person

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        people = rows_of_people(faces)
        require_mates(people, faces, "MatedCosine", others=False)
        return mated_cosine(unit_embeddings(teacher, faces), people)
