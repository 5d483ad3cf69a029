"""Evaluation: embeddings -> scores -> curves -> protocol results. NumPy and torch only."""

from kdface.evaluation.calibration import Calibration
from kdface.evaluation.ckd import CKDVerification, ClusterSeparation, CrossModalVerification
from kdface.evaluation.clustering import Clustering
from kdface.evaluation.embed import Embedder
from kdface.evaluation.folds import Identification, ckd_identification, fold_identification
from kdface.evaluation.pairs import PairList, random_pairs, read_lfw_pairs, read_mfr2_pairs
from kdface.evaluation.protocol import (
    EvaluationProtocol,
    Measured,
    Outcome,
    Verification,
    bin_verification,
    lfw_verification,
    mfr2_verification,
    random_verification,
    require_fits,
)
from kdface.evaluation.quality import QualityEDC
from kdface.evaluation.quantise import Quantised
from kdface.evaluation.templates import TemplateRecognition

__all__ = [
    "CKDVerification",
    "Calibration",
    "ClusterSeparation",
    "Clustering",
    "CrossModalVerification",
    "Embedder",
    "EvaluationProtocol",
    "Identification",
    "Measured",
    "Outcome",
    "PairList",
    "QualityEDC",
    "Quantised",
    "TemplateRecognition",
    "Verification",
    "bin_verification",
    "ckd_identification",
    "fold_identification",
    "lfw_verification",
    "mfr2_verification",
    "random_pairs",
    "random_verification",
    "read_lfw_pairs",
    "read_mfr2_pairs",
    "require_fits",
]
