"""Sources of face-image quality: a frozen network and a set of faces -> one raw score per image, higher is better.

`kdface.teachers.quality.labels` converts scores to labels in [0, 1], cached on disk.

Example:
    scores = SERFIQ(passes=100)(teacher, faces)
"""

from kdface.teachers.frozen import QualitySource
from kdface.teachers.quality.crfiqa import CRFIQA
from kdface.teachers.quality.embedding_norm import EmbeddingNorm
from kdface.teachers.quality.faceqan import FaceQAN
from kdface.teachers.quality.froq import FROQ
from kdface.teachers.quality.grafiqs import GraFIQs
from kdface.teachers.quality.head_score import HeadScore
from kdface.teachers.quality.label_file import LabelFile
from kdface.teachers.quality.mated_cosine import MatedCosine
from kdface.teachers.quality.sddfiqa import SDDFIQA
from kdface.teachers.quality.serfiq import SERFIQ

__all__ = [
    "CRFIQA",
    "FROQ",
    "SDDFIQA",
    "SERFIQ",
    "EmbeddingNorm",
    "FaceQAN",
    "GraFIQs",
    "HeadScore",
    "LabelFile",
    "MatedCosine",
    "QualitySource",
]
