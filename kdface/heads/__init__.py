"""Heads: (embedding, label) -> loss and logits. `frame` holds the shared code; each head adds a few lines.

For example

    head = ArcFace(embedding_size=512, num_classes=10572)
    head(embedding, label).loss.backward()
"""

from kdface.heads.adaface import AdaFace
from kdface.heads.combined_margin import CombinedMargin
from kdface.heads.crfiqa import CRFIQA
from kdface.heads.curricularface import CurricularFace
from kdface.heads.elasticface import ElasticFaceArc, ElasticFaceCos
from kdface.heads.frame import Classifier, Head, HeadOutput, MarginSoftmax
from kdface.heads.magface import MagFace
from kdface.heads.partial_fc import PartialFC
from kdface.heads.softmax import ArcFace, CosFace, NormFace, Softmax
from kdface.heads.sphereface import GASoftmax, SphereFace, SphereFace2017, SphereFacePlus
from kdface.heads.sphereface2 import SphereFace2
from kdface.heads.spherefacer import SphereFaceR
from kdface.heads.subcenter import SubCenterArcFace
from kdface.heads.uniface import UniFace

__all__ = [
    "CRFIQA",
    "AdaFace",
    "ArcFace",
    "Classifier",
    "CombinedMargin",
    "CosFace",
    "CurricularFace",
    "ElasticFaceArc",
    "ElasticFaceCos",
    "GASoftmax",
    "Head",
    "HeadOutput",
    "MagFace",
    "MarginSoftmax",
    "NormFace",
    "PartialFC",
    "Softmax",
    "SphereFace",
    "SphereFace2",
    "SphereFace2017",
    "SphereFacePlus",
    "SphereFaceR",
    "SubCenterArcFace",
    "UniFace",
]
