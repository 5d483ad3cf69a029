"""The norm of the embedding as quality: Meng et al., "MagFace" (CVPR 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdface.faces import FaceSet
from kdface.precision import wide
from kdface.teachers.frozen import Teacher
from kdface.teachers.quality.source import Options, batches


@dataclass(frozen=True)
class EmbeddingNorm(Options):
    """q = |f|_2, not clamped. One forward pass per image.

    Meaningful if the network was trained with a loss that ties the norm to quality (`kdface.heads.MagFace`); a weak
    baseline for CosFace or ArcFace networks.
    """

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        found = np.empty(len(faces))
        for rows, images in batches(teacher, faces, "quality by norm"):
            keys = [faces.keys[row] for row in rows.tolist()]
            found[rows] = wide(teacher.embed_view(images, keys)).norm(dim=1).cpu().numpy()
        return found
